"""`keyclave approval`: ask for what nobody does alone, and see it through."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from keyclave_cli import output
from keyclave_cli.commands.approve import approve, item_text, show_approval
from keyclave_cli.parameters import Family, as_pairs
from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.session import Session

_LARGEST = 8 << 20


@click.group(cls=Family)
def approval() -> None:
    """Ask for what nobody does alone, and see it through.

    You ask for exactly one thing; others sign its hash with `keyclave approve`; you execute it once.
    """


approval.add_command(approve, "sign")


@approval.command()
@click.argument("operation")
@click.argument("refs", nargs=-1, metavar="[REF]...")
@click.option("--reason", required=True, help="Why: it is what approvers read first.")
@click.option("--field", "-f", "fields", multiple=True, callback=as_pairs, metavar="NAME=VALUE", help="A parameter. Repeatable.")
@click.option("--body", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The parameters as a JSON file.")
@click.option("--if-match", type=int, metavar="REV", help="Only if the key is still at this revision.")
@click.pass_context
def request(
    ctx: click.Context, operation: str, refs: tuple[str, ...], reason: str, fields: list[tuple[str, str]], body: Path | None,
    if_match: int | None,
) -> None:  # fmt: skip
    """Ask for approval of an operation with exactly these parameters.

    REF is what it is done on: a key by name or id, a person. Several are one list, approved and executed as a whole.

    \b
    keyclave approval request destroy old-key -f version=1 --reason 'end of retention'
    keyclave approval request credential-issue -f principal=mona -f role=auditor -f ttl_seconds=86400 --reason 'new auditor'
    """
    given = _body(fields, body)
    items = [{"ref": ref, "request": given, **({"if_match": if_match} if if_match is not None else {})} for ref in refs or ("",)]
    options = ctx.ensure_object(Session)
    with options.client() as client:
        made = client.request_approval(operation, items, reason)
    show_approval(options, made)
    output.note(f"  next: others run `keyclave approve {made.id}`; then you run `keyclave approval execute {made.id}`")


def _body(fields: list[tuple[str, str]], file: Path | None) -> dict[str, Any]:
    """Return the parameters; a field's value is JSON where it is (1, true, [\"a\"]), else text."""
    given: dict[str, Any] = {}
    if file is not None:
        if file.stat().st_size > _LARGEST:
            raise Stop(f"{file}: too large", "a request has at most 8 MiB", USAGE)
        try:
            given = json.loads(file.read_text("utf-8"))
        except ValueError:
            given = {}
        if not isinstance(given, dict) or not given:
            raise Stop(f"{file}: this is no JSON object", 'write the parameters as {"name": value}', USAGE)
    for name, text in fields:
        if name in given:
            raise Stop(f"the parameter {name!r} is given twice", "give it once", USAGE)
        try:
            given[name] = json.loads(text)
        except ValueError:
            given[name] = text
    return given


@approval.command(name="list")
@click.option("--all", "everything", is_flag=True, help="Also those that have ended.")
@click.pass_context
def list_(ctx: click.Context, everything: bool) -> None:
    """List requests for approval."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        found = list(client.list_approvals(open_only=not everything))
    if options.json:
        output.write_json(found)
        return
    rows = [
        (one.id, one.status, one.operation, "; ".join(map(item_text, one.items)), one.requester, _count(one), one.expires_at)
        for one in found
    ]
    output.write_table(("Approval", "Status", "Operation", "Items", "Requester", "Signed", "Until"), rows, empty="none is open")


def _count(one: Any) -> str:
    return f"{sum(bool(signed['counts']) for signed in one.signatures)} of {one.needed}"


@approval.command()
@click.argument("approval_id", metavar="APPROVAL")
@click.pass_context
def show(ctx: click.Context, approval_id: str) -> None:
    """Show a request: what is asked, who signed, and whose signature counts."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        found = client.get_approval(approval_id)
    show_approval(options, found)


@approval.command()
@click.argument("approval_id", metavar="APPROVAL")
@click.option("--reason", required=True, help="Why: whoever asked reads it.")
@click.pass_context
def deny(ctx: click.Context, approval_id: str, reason: str) -> None:
    """Deny a request; it approves nothing any more."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        show_approval(options, client.deny_approval(approval_id, reason))


@approval.command()
@click.argument("approval_id", metavar="APPROVAL")
@click.option("--reason", default="", help="Why; it is recorded.")
@click.pass_context
def withdraw(ctx: click.Context, approval_id: str, reason: str) -> None:
    """Take your own request back."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        show_approval(options, client.withdraw_approval(approval_id, reason))


@approval.command()
@click.argument("approval_id", metavar="APPROVAL")
@click.option("--dry-run", is_flag=True, help="Check everything, change nothing.")
@click.pass_context
def execute(ctx: click.Context, approval_id: str, dry_run: bool) -> None:
    """Do what was approved, exactly once. Items that fail are shown; the approval is used up all the same.

    A single act can be done by its own command too, with --approval: so a new token goes into a file.
    """
    options = ctx.ensure_object(Session)
    with options.client() as client:
        done = client.execute_approval(approval_id, dry_run=dry_run)
    failed = [one for one in done.results if one.get("error")]
    if options.json:
        output.write_json({"approval": done.approval, "operation": done.operation, "results": list(done.results)})
    else:
        output.say(
            f"{'would do' if dry_run else 'did'} {done.operation}: {len(done.results) - len(failed)} of {len(done.results)}"
        )
        for one in done.results:
            error = one.get("error")
            token = (one.get("answer") or {}).get("token") if not dry_run else None
            shown = [("Item", one["ref"] or done.operation), ("Result", error["detail"] if error else "done"), ("Token", token)]
            output.write_fields(shown)
    if failed:
        raise Stop(f"{output.count_text(len(failed), 'item')} failed", "ask again for what is still wanted")


@approval.command()
@click.argument("approval_id", metavar="APPROVAL")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_context
def export(ctx: click.Context, approval_id: str, file: Path) -> None:
    """Write what proves an approval to a file, for `keyclave-verify approval`."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        bundle = client.approval_bundle(approval_id)
    if os.path.lexists(file):
        raise Stop(f"{file}: there is a file already", "name a new one", USAGE)
    file.write_text(json.dumps(bundle, indent=1) + "\n", "utf-8")
    output.say(f"wrote {file}")
    output.note(f"  next: keyclave-verify approval {file} --vkey-file F")
