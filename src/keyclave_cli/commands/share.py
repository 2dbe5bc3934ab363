"""`keyclave share`: who holds which share of the root's recovery key."""

from __future__ import annotations

import click

from keyclave_cli import output
from keyclave_cli.parameters import Family
from keyclave_cli.session import Session


@click.group(cls=Family)
def share() -> None:
    """Say who holds which share of the recovery key.

    Rules of the policy keep holders apart from other duties, and the record of an unsealing says whose share was given.
    """


@share.command()
@click.option("--history", is_flag=True, help="Every naming, not only who holds a share now.")
@click.pass_context
def holders(ctx: click.Context, history: bool) -> None:
    """List who holds which share."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        found = client.share_holders()
    if session.json:
        output.write_json(found)
        return
    shown = found.history if history else found.holders
    rows = [(str(one.share), one.principal, one.since, one.named_by, one.approval) for one in shown]
    output.write_table(("Share", "Holder", "Since", "Named by", "Approval"), rows, empty="nobody is named")
    if found.unnamed:
        output.note(f"  nobody is named for {', '.join(map(str, found.unnamed))}: `keyclave share name NUMBER PERSON`")


@share.command()
@click.argument("number", type=click.IntRange(1, 16))
@click.argument("person")
@click.option("--reason", default="", help="Why; it is in the record.")
@click.pass_context
def name(ctx: click.Context, number: int, person: str, reason: str) -> None:
    """Record that PERSON holds the share of this NUMBER now.

    Only custodians of the home tenant may, and another person approves it first. It moves no share: whoever had it before hands
    it over, and may have kept a copy.

    \b
    keyclave approval request share-holder-name -f share=2 -f principal=ann --reason "bea leaves us"
    keyclave --approval apr_… share name 2 ann
    """
    session = ctx.ensure_object(Session)
    with session.client() as client:
        made = client.name_share_holder(number, person, reason)
    output.write_done(made, f"share {made.share} is held by {made.principal}", as_json=session.json)
