"""`keyclave session`: where somebody is logged in, and the end of it."""

from __future__ import annotations

import click

from keyclave_cli import output
from keyclave_cli.parameters import Family
from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.session import Session


@click.group(cls=Family)
def session() -> None:
    """List and end sessions.

    Everybody sees and ends their own; custodians and operators those of others too.
    """


@session.command(name="list")
@click.option("--principal", metavar="NAME", default="", help="Whose; your own if left out.")
@click.option("--all", "everybody", is_flag=True, help="Everybody's.")
@click.pass_context
def list_(ctx: click.Context, principal: str, everybody: bool) -> None:
    """List live sessions."""
    if principal and everybody:
        raise Stop("--principal and --all exclude each other", "give one of them", USAGE)
    options = ctx.ensure_object(Session)
    with options.client() as client:
        found = list(client.list_sessions("*" if everybody else principal))
    if options.json:
        output.write_json(found)
        return
    rows = [
        (
            one.id,
            one.principal,
            f"{one.aal} by {one.how}",
            one.source,
            one.seen_at,
            one.expires_at,
            "this one" if one.current else "",
        )
        for one in found
    ]
    output.write_table(("Session", "Principal", "Level", "From", "Last used", "Until", ""), rows, empty="there are none")


@session.command()
@click.argument("session_id", metavar="SESSION", required=False)
@click.option("--principal", metavar="NAME", help="End every session of this person instead.")
@click.option("--reason", default="", help="Why; it is recorded.")
@click.pass_context
def revoke(ctx: click.Context, session_id: str | None, principal: str | None, reason: str) -> None:
    """End a session, or every session of a person. When this returns, its token opens nothing."""
    if (session_id is None) == (principal is None):
        raise Stop("name one session, or --principal for all of a person's", "see `keyclave session list`", USAGE)
    options = ctx.ensure_object(Session)
    with options.client() as client:
        ended = (
            client.revoke_session(session_id, reason) if session_id is not None else client.end_sessions(principal or "", reason)
        )
    if options.json:
        output.write_json({"ended": ended})
    else:
        output.say(f"ended {output.count_text(ended, 'session')}")
