"""`keyclave completion`: scripts that let a shell complete this command line."""

from __future__ import annotations

import sys

import click
from click.shell_completion import get_completion_class

VARIABLE = "_KEYCLAVE_COMPLETE"  # the name that click derives from the program's


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a completion script for a shell.

    \b
    bash  eval "$(keyclave completion bash)"          in ~/.bashrc
    zsh   eval "$(keyclave completion zsh)"           in ~/.zshrc
    fish  keyclave completion fish > ~/.config/fish/completions/keyclave.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    maker = kind(ctx.find_root().command, {}, "keyclave", VARIABLE)
    sys.stdout.write(maker.source_template % maker.source_vars())
