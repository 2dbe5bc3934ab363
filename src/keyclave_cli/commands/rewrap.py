"""`keyclave rewrap`: objects move to the newest version, to another key, or to another context."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import click

from keyclave_cli.parameters import RemoteCommand, as_map, context_option
from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.session import Session

if TYPE_CHECKING:
    from keyclave_cli.files.plan import Plan
    from keyclave_client import Client


@click.command(cls=RemoteCommand)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True))
@context_option("Encryption context the files have now. Repeatable.")
@click.option("--to-key", metavar="KEY", help="Move them to this key; else to the newest version of their own.")
@click.option(
    "--to-context",
    multiple=True,
    callback=as_map,
    metavar="NAME=VALUE",
    help="Bind them to this context instead: all of it, not only what changes. Repeatable.",
)
@click.option(
    "--jobs", "-j", type=click.IntRange(1, 64), default=4, show_default=True, help="Files at a time, with --to-context."
)
@click.pass_context
def rewrap(
    ctx: click.Context, paths: tuple[str, ...], context: dict[str, str], to_key: str | None, to_context: dict[str, str], jobs: int
) -> None:
    """Move files to a newer version, key or context.

    Only the wrapped data keys travel, a thousand in a request, so terabytes are rewrapped in moments; each file's
    header is changed in place, and its data stays as it is. A changed --to-context is the exception: it is bound into
    the data, which is therefore encrypted anew, on this machine and without plaintext on the disk. In folders, files
    that are not encrypted are left alone.

    \b
    keyclave key rotate patient-records
    keyclave rewrap sealed -c purpose=treatment
    """
    session = ctx.ensure_object(Session)
    from keyclave_cli.files.finished import is_object
    from keyclave_cli.files.plan import plan
    from keyclave_cli.files.report import carry_out
    from keyclave_cli.files.workers import Rebinding

    def naming(path: str, explicit: bool) -> str | None:
        if is_object(path):
            return os.path.basename(path)
        if explicit:
            raise Stop(f"{path} is not encrypted by Keyclave", "encrypt it with `keyclave encrypt`", USAGE)
        return None

    work = plan(paths, None, naming)
    with session.client() as client:
        if to_context:
            rebinding = Rebinding(client, to_key, context, to_context)
            done = carry_out(rebinding, work, ("rewrapping", "rewrapped"), jobs=jobs, as_json=session.json)
        else:
            done = _in_place(session, client, work, context, to_key)
    ctx.exit(done)


def _in_place(session: Session, client: Client, work: Plan, context: dict[str, str], to_key: str | None) -> int:
    from keyclave_cli.files.progress import Bars
    from keyclave_cli.files.report import report, unreadable
    from keyclave_cli.files.rewrapping import Rewrapping

    began = time.monotonic()
    with Bars("rewrapping", len(work.items), sum(item.size for item in work.items), quiet=session.json) as bars:
        outcomes = Rewrapping(client, context, to_key).run(work.items, bars) + unreadable(work)
    return report(outcomes, work.aside, "rewrapped", time.monotonic() - began, as_json=session.json)
