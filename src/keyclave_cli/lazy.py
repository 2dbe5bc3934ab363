"""A click group that knows its commands by name and loads one only when it is called."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from keyclave_cli.catalogue import BY_NAME, SECTIONS


class LazyGroup(click.Group):
    """The commands of the catalogue, in its order and sections."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every name; nothing is imported."""
        return list(BY_NAME)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        entry = BY_NAME.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.where.partition(":")
        command: click.Command = getattr(import_module(f"keyclave_cli.commands.{module}"), attribute)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is called; a misspelt one is answered with what may have been meant."""
        if args[0] not in BY_NAME and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise click.exceptions.NoSuchCommand(args[0], possibilities=BY_NAME, ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the catalogue, a section at a time."""
        width = max(map(len, BY_NAME))
        for title, entries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(entry.name.ljust(width), entry.line) for entry in entries])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Complete names from the catalogue: a key press must not import the whole command line."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(entry.name, help=entry.line) for entry in BY_NAME.values() if entry.name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)
