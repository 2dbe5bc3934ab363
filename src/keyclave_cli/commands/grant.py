"""`keyclave grant`: rights to use keys that one principal gives another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from keyclave_cli import output
from keyclave_cli.parameters import Family, as_pairs, as_seconds
from keyclave_cli.session import Session

if TYPE_CHECKING:
    from keyclave_client.rights_views import Grant

PURPOSES = ("treatment", "payment", "operations", "research", "break-glass")


@click.group(cls=Family)
def grant() -> None:
    """Grant applications uses of keys, and take grants away.

    A grant adds to what a credential's scope permits, holds from the next request on, and ends by itself.
    """


@grant.command()
@click.argument("grantee")
@click.option("--operation", "-o", "operations", multiple=True, required=True, help="A use of keys, such as decrypt. Repeatable.")
@click.option("--key", "-k", "keys", multiple=True, required=True, help="A key: name, id, or name ending in *. Repeatable.")
@click.option("--ttl", callback=as_seconds, metavar="DURATION", default="8h", show_default=True, help="How long: 15m, 8h, 30d.")
@click.option(
    "--context",
    "-c",
    "contexts",
    multiple=True,
    callback=as_pairs,
    metavar="NAME=VALUE",
    help="A value the encryption context must have; repeat a NAME for alternatives, * for any value.",
)
@click.option("--exact", is_flag=True, help="The encryption context has these names and no other.")
@click.option(
    "--for-purpose", "purposes", multiple=True, type=click.Choice(PURPOSES), help="A purpose of use to be declared. Repeatable."
)
@click.option("--network", "networks", multiple=True, help="A network of the policy to come from. Repeatable.")
@click.option("--uses", type=click.IntRange(1), help="How many uses.")
@click.option("--delegate", is_flag=True, help="The grantee may give it on.")
@click.option("--parent", metavar="GRANT", help="Give on from this grant of your own.")
@click.option("--reason", default="", help="Why; it is recorded.")
@click.pass_context
def create(
    ctx: click.Context, grantee: str, operations: tuple[str, ...], keys: tuple[str, ...], ttl: int,
    contexts: list[tuple[str, str]], exact: bool, purposes: tuple[str, ...], networks: tuple[str, ...], uses: int | None,
    delegate: bool, parent: str | None, reason: str,
) -> None:  # fmt: skip
    """Grant an application uses of keys.

    \b
    keyclave grant create ward-3-viewer -o decrypt -k 'patient-*' -c ward=3 --for-purpose treatment --uses 100 --ttl 8h
    """
    options = ctx.ensure_object(Session)
    values: dict[str, list[str]] = {}
    for name, value in contexts:
        values.setdefault(name, []).append(value)
    with options.client() as client:
        made = client.create_grant(
            grantee, operations, keys, ttl, context=values, delegate=delegate, exact=exact, networks=networks, parent=parent,
            purposes=purposes, reason=reason, uses=uses,
        )  # fmt: skip
    _show(options, made)


@grant.command(name="list")
@click.option("--grantee", default="", help="Only grants to this principal.")
@click.option("--all", "everything", is_flag=True, help="Also those that have ended.")
@click.pass_context
def list_(ctx: click.Context, grantee: str, everything: bool) -> None:
    """List grants; an application sees those it gave or holds."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        found = list(client.list_grants(grantee=grantee, live=not everything))
    rows = [(one.id, one.grantee, one.status, _reach(one), _left(one), one.created_by, one.expires_at) for one in found]
    columns = ("Grant", "To", "Status", "For", "Uses left", "By", "Until")
    output.write_list(found, columns, rows, as_json=options.json, empty="there are none")


@grant.command()
@click.argument("grant_id", metavar="GRANT")
@click.pass_context
def show(ctx: click.Context, grant_id: str) -> None:
    """Show a grant."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        _show(options, client.get_grant(grant_id))


@grant.command()
@click.argument("grant_id", metavar="GRANT")
@click.option("--reason", default="", help="Why; it is recorded.")
@click.pass_context
def retire(ctx: click.Context, grant_id: str, reason: str) -> None:
    """Hand back a grant you hold; what you gave on from it ends too."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        _ended(options, client.retire_grant(grant_id, reason))


@grant.command()
@click.argument("grant_id", metavar="GRANT")
@click.option("--reason", default="", help="Why; it is recorded.")
@click.pass_context
def revoke(ctx: click.Context, grant_id: str, reason: str) -> None:
    """Take a grant away. When this returns, it permits nothing, nor does any given on from it."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        _ended(options, client.revoke_grant(grant_id, reason))


def _ended(options: Session, gone: Grant) -> None:
    output.write_done(gone, f"{gone.status} {gone.id} of {gone.grantee}", as_json=options.json)


def _show(options: Session, one: Grant) -> None:
    if options.json:
        output.write_json(one)
        return
    bound = ", ".join(f"{name} is {' or '.join(values)}" for name, values in one.context.items())
    output.write_fields(
        [
            ("Grant", one.id),
            ("To", one.grantee),
            ("Status", one.status),
            ("For", _reach(one)),
            ("Context", (bound or None) if not one.exact else f"{bound or 'empty'}, and nothing else"),
            ("Purposes", ", ".join(one.purposes) or None),
            ("Networks", ", ".join(one.networks) or None),
            ("Uses left", _left(one)),
            ("May be given on", "yes" if one.delegate else None),
            ("Given on from", one.parent),
            ("By", one.created_by),
            ("Until", one.expires_at),
            ("Ended", one.ended_at and f"{one.ended_at} by {one.ended_by}"),
        ]
    )


def _reach(one: Grant) -> str:
    return f"{', '.join(one.operations)} on {', '.join(one.keys)}"


def _left(one: Grant) -> str | None:
    return None if one.remaining is None else f"{one.remaining:,} of {one.uses:,}"
