"""`keyclave completion`: scripts that let a shell complete this command line."""

from __future__ import annotations

import sys

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

KINDS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
VARIABLE = "_KEYCLAVE_COMPLETE"  # the name that click derives from the program's


@click.command()
@click.argument("shell", type=click.Choice(list(KINDS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a completion script for a shell.

    \b
    bash  eval "$(keyclave completion bash)"          in ~/.bashrc
    zsh   eval "$(keyclave completion zsh)"           in ~/.zshrc
    fish  keyclave completion fish > ~/.config/fish/completions/keyclave.fish
    """
    maker = KINDS[shell](ctx.find_root().command, {}, "keyclave", VARIABLE)
    sys.stdout.write(maker.source_template % maker.source_vars())
