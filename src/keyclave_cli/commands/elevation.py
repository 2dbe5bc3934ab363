"""`keyclave elevate`, `elevation` and `eligibility`: roles taken on for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from keyclave_cli import output
from keyclave_cli.parameters import Family, RemoteCommand
from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.session import Session

if TYPE_CHECKING:
    from keyclave_client.rights_views import Elevation


@click.command(cls=RemoteCommand)
@click.argument("role")
@click.option("--reason", required=True, help="What for; it is recorded.")
@click.option("--minutes", type=click.IntRange(1, 720), help="How long; as long as policy allows if left out.")
@click.pass_context
def elevate(ctx: click.Context, role: str, reason: str, minutes: int | None) -> None:
    """Take on a role you are eligible for, for minutes; it ends by itself.

    \b
    keyclave elevate operator --reason 'incident 12: suspend the leaked key' --minutes 20
    """
    options = ctx.ensure_object(Session)
    with options.client() as client:
        taken = client.elevate(role, reason, minutes)
    show_running(options, taken)


def show_running(options: Session, taken: Elevation) -> None:
    """Show an elevation that has begun, and how to end it."""
    if options.json:
        output.write_json(taken)
        return
    output.write_fields(
        [("Elevation", taken.id), ("Role", taken.role), ("Left", clock_text(taken.seconds_left)), ("Until", taken.ends_at)]
    )
    output.note("  next: end it when you are done: keyclave elevation end")


def clock_text(seconds: int) -> str:
    """Return how long is left, as people say it: 19 min 30 s."""
    minutes, rest = divmod(seconds, 60)
    return " ".join(part for part in (f"{minutes} min" if minutes else "", f"{rest} s" if rest or not minutes else "") if part)


@click.group(cls=Family)
def elevation() -> None:
    """See who has taken on which role, and end it early."""


@elevation.command(name="list")
@click.option("--all", "everything", is_flag=True, help="Also those that are over.")
@click.pass_context
def list_elevations(ctx: click.Context, everything: bool) -> None:
    """List roles that were taken on: yours, or everybody's if you watch over them."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        found = [one for one in client.list_elevations() if everything or one.status not in ("ended", "reviewed")]
    if options.json:
        output.write_json([output.plain(one) for one in found])
        return
    rows = [
        (one.id, one.principal, one.role, one.status, clock_text(one.seconds_left) if one.seconds_left else None, one.reason)
        for one in found
    ]
    output.write_table(("Elevation", "Who", "Role", "Status", "Left", "Reason"), rows, empty="there are none")


@elevation.command()
@click.argument("elevation_id", metavar="[ELEVATION]", required=False)
@click.option("--reason", default="", help="Why; it is recorded.")
@click.pass_context
def end(ctx: click.Context, elevation_id: str | None, reason: str) -> None:
    """End a role early: the one you have taken on, or the one you name."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        running = None if elevation_id else client.whoami().elevation
        named = elevation_id or (str(running["id"]) if running else None)
        if named is None:
            raise Stop("you have taken on no role", "name one of `keyclave elevation list`", USAGE)
        over = client.end_elevation(named, reason)
    output.write_done(over, f"ended {over.id}: {over.principal} is {over.role} no longer", as_json=options.json)


@click.group(cls=Family)
def eligibility() -> None:
    """Say who may take on which role when they need it."""


@eligibility.command()
@click.argument("principal")
@click.argument("role")
@click.option("--days", type=click.IntRange(1, 366), default=90, show_default=True, help="How long they may.")
@click.option("--key", "-k", "keys", multiple=True, help="break-glass: a key, by name, id, or name ending in *. Repeatable.")
@click.option("--operation", "-o", "operations", multiple=True, help="break-glass: a use; decrypt and unwrap if left out.")
@click.option("--without-reference", is_flag=True, help="break-glass: no patient or encounter need be named.")
@click.option("--reason", default="", help="Why; it is recorded.")
@click.pass_context
def create(
    ctx: click.Context, principal: str, role: str, days: int, keys: tuple[str, ...], operations: tuple[str, ...],
    without_reference: bool, reason: str,
) -> None:  # fmt: skip
    """Let a person take on a role: a duty, a role of the policy, or break-glass.

    \b
    keyclave eligibility create m.okafor operator --days 30
    keyclave eligibility create dr.lind break-glass -k 'patient-*'
    """
    options = ctx.ensure_object(Session)
    with options.client() as client:
        made = client.create_eligibility(
            principal, role, days=days, keys=keys, operations=operations, reference=not without_reference, reason=reason
        )
    if options.json:
        output.write_json(made)
        return
    output.write_fields(
        [("Eligibility", made.id), ("For", made.principal), ("Role", made.role), ("Keys", ", ".join(made.keys) or None),
         ("Until", made.expires_at)]
    )  # fmt: skip


@eligibility.command(name="list")
@click.option("--all", "everything", is_flag=True, help="Also those that were revoked.")
@click.pass_context
def list_eligibilities(ctx: click.Context, everything: bool) -> None:
    """List who may take on which role; who may break the glass is shown to custodians and auditors alone."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        found = [one for one in client.list_eligibilities() if everything or one.revoked_at is None]
    rows = [(one.id, one.principal, one.role, ", ".join(one.keys) or None, one.created_by, one.expires_at) for one in found]
    columns = ("Eligibility", "Who", "Role", "Keys", "By", "Until")
    output.write_list(found, columns, rows, as_json=options.json, empty="there are none")


@eligibility.command()
@click.argument("eligibility_id", metavar="ELIGIBILITY")
@click.option("--reason", default="", help="Why; it is recorded.")
@click.pass_context
def revoke(ctx: click.Context, eligibility_id: str, reason: str) -> None:
    """Take an eligibility away; what was taken on by it ends at once."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        gone = client.revoke_eligibility(eligibility_id, reason)
    output.write_done(gone, f"revoked {gone.id}", as_json=options.json)
