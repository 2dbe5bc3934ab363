"""`keyclave audit`: the record, to read and to verify."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click

from keyclave_cli import output
from keyclave_cli.parameters import Family
from keyclave_cli.problems import FAILED, OK, USAGE, Stop
from keyclave_cli.session import Session


@click.group(cls=Family)
def audit() -> None:
    """Read, export and verify the record.

    Every operation leaves an event in a log whose history nobody can change unnoticed. Reading it takes an auditor's
    credential; checkpoint and verification keys are for everybody.
    """


@audit.command()
@click.option("--out", type=click.Path(dir_okay=False), help="Write it to this file, to keep it apart.")
@click.pass_context
def checkpoint(ctx: click.Context, out: str | None) -> None:
    """Print the newest signed checkpoint.

    Keep one where the server's operators cannot reach it. Later it proves that the log only grew:

    \b
    keyclave audit checkpoint --out kept
    keyclave-verify log DIR --vkey-file KEYS --checkpoint kept
    """
    from keyclave_cli.record.export import newest_checkpoint, read_served_checkpoint

    session = ctx.ensure_object(Session)
    with session.client(authenticated=False) as client:
        raw = newest_checkpoint(client)
    said = read_served_checkpoint(raw)
    if out is not None:
        Path(out).write_bytes(raw)
    if session.json:
        output.write_json({"origin": said.origin, "size": said.size, "root": said.root, "note": raw.decode()})
    elif out is None:
        output.say(raw.decode().rstrip("\n"))
    else:
        output.say(f"checkpoint of {said.size:,} events in {out}")


@audit.command()
@click.option("--from", "start", type=click.IntRange(min=0), default=0, show_default=True, help="Place in the log to begin at.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at most.")
@click.option("--key", "-k", help="Only of this key (its name or id).")
@click.option("--actor", help="Only of this principal.")
@click.option("--operation", "-o", help="Only this operation.")
@click.option("--grant", help="Only what this grant or elevation permitted.")
@click.pass_context
def events(
    ctx: click.Context, start: int, limit: int, key: str | None, actor: str | None, operation: str | None, grant: str | None
) -> None:
    """Show events, as an auditor."""
    from keyclave_cli.record.filters import check_operation, key_id

    session = ctx.ensure_object(Session)
    with session.client() as client:
        of_key = None if key is None else key_id(client, key)
        found = list(
            islice(
                client.events(start, key=of_key, actor=actor, operation=operation, grant=grant, page=min(limit + 1, 500)),
                limit + 1,
            )
        )
        if not found and operation is not None:
            check_operation(client, operation)
        follow = found[limit].index if len(found) > limit else None
        if follow is not None:
            more = output.count_text(
                max(1, client.status().log.get("size", 0) - follow), "more event follows", "more events follow"
            )
            output.note(f"up to {more}\n  next: the same with --from {follow}, or a greater --limit")
    found = found[:limit]
    if session.json:
        output.write_json(found)
        return
    columns = ("Index", "When", "Who", "What", "Key", "Version", "Outcome", "Event")
    output.write_table(columns, [_row(event.index, event.leaf) for event in found], empty="there are no such events")


def _row(index: int, leaf: Any) -> tuple[object, ...]:
    count = leaf.get("count", 1)
    what = (
        leaf.get("op", "-") + (f" x{count}" if count > 1 else "") + (f" ({leaf['failed']} failed)" if leaf.get("failed") else "")
    )
    who = leaf.get("actor") or "-"
    return (index, _time(leaf.get("at")), who, what, leaf.get("key"), leaf.get("version"), leaf.get("outcome"), leaf.get("id"))


def _time(at: Any) -> str | None:
    try:
        return datetime.fromtimestamp(at / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
    except (TypeError, ValueError, OverflowError, OSError):
        return None


@audit.command()
@click.argument("event")
@click.option("--out", type=click.Path(dir_okay=False), help="Write the receipt to this file.")
@click.pass_context
def receipt(ctx: click.Context, event: str, out: str | None) -> None:
    """Fetch an event's receipt and verify it.

    A receipt proves, offline and to anybody with the log's verifier keys, that the event is in the log:

    \b
    keyclave audit receipt EVENT --out FILE
    keyclave-verify receipt FILE --vkey-file KEYS
    """
    import json

    from keyclave_cli.record.trust import TrustedRecord
    from keyclave_verify.receipts import verify_receipt

    session = ctx.ensure_object(Session)
    with session.client() as client:
        got = client.receipt(event)
        keys = client.log_keys()
    raw = json.dumps(output.plain(got), indent=2).encode() + b"\n"
    trusted = TrustedRecord(keys.origin).trust(keys.origin, keys.vkeys)
    report = verify_receipt(raw, "the receipt", trusted.trust)
    if out is not None:
        Path(out).write_bytes(raw)
    if session.json:
        output.write_json({"receipt": got, "verified": report.good, "faults": [fault.detail for fault in report.faults]})
    else:
        sys.stdout.write(report.to_text(color=output.is_terminal()) + "\n")
    ctx.exit(OK if report.good else FAILED)


@audit.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False))
@click.pass_context
def export(ctx: click.Context, folder: str) -> None:
    """Fetch the whole log into a folder, as an auditor.

    Run again, it fetches only what is new. What the folder holds is described in spec/log-directory.md. It verifies
    offline, with the log's verifier keys in a file, one a line, from somebody you trust and not from the export:

    \b
    keyclave-verify log DIR --vkey-file KEYS
    keyclave audit verify DIR --keys KEYS
    """
    session = ctx.ensure_object(Session)
    done = _export(session, Path(folder))
    if session.json:
        output.write_json(done._asdict())
    else:
        output.say(
            f"{done.size:,} events of {done.origin} in {folder}: {done.fetched:,} files fetched, {done.there:,} were there"
        )


def _export(session: Session, folder: Path) -> Any:
    from keyclave_cli.record.export import export_log

    shown = sys.stderr.isatty() and not session.json

    def told(done: int, count: int) -> None:
        if shown and (done == count or done % 64 == 0):
            sys.stderr.write(f"\rfetching {done:,} of {count:,} files" + ("\n" if done == count else ""))

    with session.client() as client:
        return export_log(client, folder, told)


@audit.command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(exists=True, file_okay=False))
@click.option(
    "--keys", "keys_file", type=click.Path(exists=True, dir_okay=False), help="Trust the log's keys in this file, and no others."
)
@click.option("--strict", is_flag=True, help="Also parse every event and compare it with its canonical form.")
@click.pass_context
def verify(ctx: click.Context, folder: str | None, keys_file: str | None, strict: bool) -> None:
    """Verify the log: signatures, tree, order, and that it continues what was seen before.

    Without DIR the log is fetched first, into your configuration folder. Its keys are trusted from the first contact
    on, unless --keys names those that you got from somebody you trust; the newest checkpoint that verified is kept,
    so that a history that is rewritten, shortened or forked later is found. With DIR an export is verified as it is,
    without a server.
    """
    from keyclave_cli.record.export import read_served_checkpoint
    from keyclave_cli.record.trust import TrustedRecord, read_trust
    from keyclave_verify.directory import LogDirectory
    from keyclave_verify.log import verify_log
    from keyclave_verify.report import Unusable

    session = ctx.ensure_object(Session)
    if folder is None:
        with session.client() as client:
            keys = client.log_keys()
        record = TrustedRecord(keys.origin)
        given = None if keys_file is None else read_trust(Path(keys_file))
        trust = given or _first_contact(record.trust(keys.origin, keys.vkeys), record)
        _export(session, record.log)
        where = record.log
    else:
        where = Path(folder)
        record = TrustedRecord(read_served_checkpoint((where / "checkpoint").read_bytes()).origin)
        known = read_trust(Path(keys_file)) if keys_file is not None else record.known_keys()
        if known is None:
            raise Stop(
                f"no keys of the log {record.origin} are trusted here yet",
                "give --keys FILE with the log's verifier keys, from somebody you trust and not from the export",
                USAGE,
            )
        trust = known
    raw = (where / "checkpoint").read_bytes()
    kept = record.checkpoint()
    older = [] if kept is None else [("the checkpoint kept here", kept)]
    try:
        report = verify_log(LogDirectory(where), trust, older, strict=strict)
    except Unusable as error:
        raise Stop(str(error), "name the folder of an export") from None
    if report.good:
        record.keep(raw)
    sys.stdout.write((report.to_json() if session.json else report.to_text(color=output.is_terminal())) + "\n")
    ctx.exit(OK if report.good else FAILED)


def _first_contact(trusted: Any, record: Any) -> Any:
    if trusted.first:
        output.note(f"first contact with the log {record.origin}: its keys are trusted from now on")
        for key in trusted.trust.keys:
            output.note(f"  {key}")
        output.note(f"  next: compare them with what its auditors published; they are in {record.folder / 'trusted-keys'}")
    return trusted.trust
