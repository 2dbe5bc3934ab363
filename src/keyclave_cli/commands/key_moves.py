"""The moves of a key's life, each a command: one table, since they differ only in what they ask for."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import click

from keyclave_cli.commands.key_view import show_key
from keyclave_cli.parameters import RemoteCommand
from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.session import Session

DAYS = 30


class MoveRow(NamedTuple):
    """`done` is said afterwards; `one` version must be named, a `reason` given; `certain` asks once more at a terminal."""

    name: str
    done: str
    line: str
    more: str = ""
    versions: bool = True
    one: bool = False
    reason: bool = False
    certain: bool = False


TABLE = (
    MoveRow("activate", "activated", "Begin the use of a version, and make it primary."),
    MoveRow("rotate", "rotated", "Make a new version the primary one.",
            "Older ones only open what they protected. `keyclave rewrap` then moves files to the new one.", versions=False),
    MoveRow("suspend", "suspended", "Stop every use for a time.", reason=True),
    MoveRow("resume", "resumed", "End a suspension."),
    MoveRow("deactivate", "deactivated", "End protection; what was protected still opens."),
    MoveRow("compromise", "reported compromised:", "Report a compromise: every use stops.", reason=True),
    MoveRow("archive", "archived", "Put a deactivated version away, out of use."),
    MoveRow("recover", "recovered", "Bring a version back from the archive."),
    MoveRow("schedule-destruction", "scheduled the destruction of", "Set the day of a destruction.",
            "Every use stops until then, so that whoever still depends on the version notices in time. It can be cancelled.",
            one=True, reason=True),
    MoveRow("cancel-destruction", "cancelled the destruction of", "Stop a scheduled destruction."),
    MoveRow("destroy", "destroyed", "Destroy a version for ever.",
            "Its waiting period must be over, and another custodian than the one who scheduled it does this. What is still\n"
            "encrypted under it is lost.",
            one=True, certain=True),
)  # fmt: skip


def _command(row: MoveRow) -> click.Command:
    def run(ctx: click.Context, name: str, dry_run: bool, if_match: int | None, **given: Any) -> None:
        session = ctx.ensure_object(Session)
        if row.certain and not dry_run and not given.pop("yes"):
            _make_certain(row, name, given["version"])
        given.pop("yes", None)
        with session.client() as client:
            view = client.move(name, row.name, dry_run=dry_run, if_match=if_match, **given)
        show_key(view, session, done=row.done, dry_run=dry_run)

    run.__doc__ = f"{row.line}\n\n{row.more}"
    command = click.command(name=row.name, cls=RemoteCommand)(click.pass_context(run))
    command.params[:0] = [click.Argument(["name"], metavar="KEY"), *_options(row)]
    return command


def _options(row: MoveRow) -> list[click.Option]:
    options = []
    if row.versions:
        what = "The version." if row.one else "The version; else the one that is meant, if only one can be."
        options.append(click.Option(["--version"], type=click.IntRange(min=1), required=row.one, metavar="N", help=what))
    options.append(click.Option(["--reason"], required=row.reason, help="Why; it is recorded."))
    if row.name == "schedule-destruction":
        waiting = click.IntRange(0, 365)
        options.append(click.Option(["--days"], type=waiting, default=DAYS, show_default=True, help="How long to wait at least."))
    options.append(click.Option(["--if-match"], type=int, metavar="REV", help="Only if the key is still at this revision."))
    options.append(click.Option(["--dry-run"], is_flag=True, help="Check everything, change nothing."))
    if row.certain:
        options.append(click.Option(["--yes"], is_flag=True, help="Do not ask."))
    return options


def _make_certain(row: MoveRow, name: str, version: int) -> None:
    """Ask for the key's name: a yes is typed without thinking."""
    if not sys.stdin.isatty():
        raise Stop(f"{row.name} cannot be undone", "add --yes if that is what you want", USAGE)
    typed = click.prompt(f"Version {version} of {name} will be gone for ever. Type the key's name to go on", err=True)
    if typed.strip() != name:
        raise Stop("that is not its name; nothing was changed", f"repeat the command and type {name}")


MOVES = [_command(row) for row in TABLE]
