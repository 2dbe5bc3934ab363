"""`keyclave policy explain`, `test` and `simulate`: questions about a policy that change nothing."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click

from keyclave_cli import output
from keyclave_cli.parameters import RemoteCommand, context_option
from keyclave_cli.policy_files import read_bundle
from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.session import Session

_UNDER = click.option(
    "--under",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIRECTORY",
    help="A bundle; the policy in force if left out.",
)


@click.command(cls=RemoteCommand)
@click.argument("principal")
@click.argument("operation")
@click.argument("key", required=False, default="")
@context_option("The encryption context. Repeatable.")
@click.option("--purpose", default="", help="The purpose of use that is declared.")
@click.option("--address", default="", help="Where the call comes from.")
@click.option("--aal", type=click.IntRange(1, 3), help="The assurance level; the best that a person can prove if left out.")
@click.option("--how", default="", help="The method of proof: passkey, totp, oidc, mtls.")
@click.option("--stale", is_flag=True, help="The last proof of presence is more than five minutes old.")
@click.option("--duty", help="Suppose somebody of this duty.")
@click.option("--role", "roles", multiple=True, help="Suppose this role beside the duty. Repeatable.")
@_UNDER
@click.pass_context
def explain(
    ctx: click.Context, principal: str, operation: str, key: str, context: dict[str, str], purpose: str, address: str,
    aal: int | None, how: str, stale: bool, duty: str | None, roles: tuple[str, ...], under: Path | None,
) -> None:  # fmt: skip
    """Say why somebody may do something, or why not."""
    session = ctx.ensure_object(Session)
    asked: dict[str, Any] = {
        "principal": principal, "operation": operation, "key": key, "context": context, "purpose": purpose, "address": address,
        "how": how, "fresh": not stale,
    }  # fmt: skip
    optional = {"aal": aal, "duty": duty, "roles": list(roles) or None, "files": None if under is None else read_bundle(under)}
    asked |= {name: value for name, value in optional.items() if value is not None}
    with session.client() as client:
        found = client.explain_policy(asked)
    if session.json:
        output.write_json(found)
        return
    output.say(f"{'allowed' if found['allowed'] else 'refused'}: {found['why']}")
    approval = found["approval"]
    waits = None if approval is None else f"{approval['count']} of {', '.join(approval['roles'])}, within {approval['hours']} h"
    fresh = f"{found['fresh_seconds'] // 60} minutes" if found["fresh_seconds"] else None
    level = found["assurance"] if found["assurance"] > 1 else None
    output.write_fields([("Approvers", waits), ("Assurance level", level), ("Proof no older than", fresh)])
    for one in found["apart"]:
        does = "does it" if one["side"] == "then" else "approves it"
        output.say(f"\nnobody {does} who did {', '.join(one['first'])} on the same {one['over']}: {one['why']}")
    for one in found["decided_by"]:
        output.say(f"\n{one['file'] or 'built in'}: {one['text']}")
    if found["hint"]:
        output.note(f"  next: {found['hint']}")


@click.command(cls=RemoteCommand)
@click.argument("cases", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_UNDER
@click.pass_context
def test(ctx: click.Context, cases: Path, under: Path | None) -> None:
    """Run the cases of a TOML file; exit with 1 if one comes out otherwise than expected.

    \b
    [[case]]
    name = "operators rotate"
    principal = "anybody"
    duty = "operator"
    operation = "rotate"
    new_key = {tags = {ward = "3"}}
    allow = true
    """
    session = ctx.ensure_object(Session)
    listed = _cases(cases)
    with session.client() as client:
        found = client.run_policy_cases(listed, None if under is None else read_bundle(under))
    if session.json:
        output.write_json(found)
    else:
        for one in found["outcomes"]:
            output.say(f"{'passed' if one['passed'] else 'FAILED'}  {one['name']}" + (f": {one['said']}" if one["said"] else ""))
    if not found["passed"]:
        ctx.exit(1)


@click.command(cls=RemoteCommand)
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--days", type=click.IntRange(1, 366), default=30, show_default=True, help="How far back.")
@click.pass_context
def simulate(ctx: click.Context, directory: Path, days: int) -> None:
    """Judge the calls of the last days under a directory: which would come out otherwise."""
    session = ctx.ensure_object(Session)
    files = read_bundle(directory)
    with session.client() as client:
        found = client.simulate_policy(files, days)
    if session.json:
        output.write_json(found)
        return
    rows = [
        (one["effect"], one["calls"], one["actor"], one["operation"], one["key"], ", ".join(one["policies"]), one["last"])
        for one in found["groups"]
    ]
    output.write_table(
        ("Would be", "Calls", "By", "Operation", "Key", "Policy", "Last"), rows, empty="no call would come out otherwise"
    )
    if found["more"]:
        output.note(f"  and {found['more']} more groups: see --json")
    output.note(f"  {found['judged']:,} of {found['events']:,} events since {found['since']} were judged")
    for one in found.get("unjudged", ()):
        output.note(f"  not judged: {one['calls']:,} of {one['operation']}: {one['why']}")
    if not found["complete"]:
        output.note("  older events of these days were left out: there are too many")


def _cases(path: Path) -> list[dict[str, Any]]:
    try:
        read = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise Stop(f"{path}: {fault}", "correct the file; `keyclave policy test --help` shows a case", USAGE) from None
    found = read.get("case")
    if not isinstance(found, list) or not found or read.keys() != {"case"}:
        raise Stop(f"{path}: there are no cases in it", "begin each with [[case]]; nothing else stands in the file", USAGE)
    return found


COMMANDS = (explain, test, simulate)
