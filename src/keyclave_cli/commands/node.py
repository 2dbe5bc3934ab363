"""`keyclave node`: the nodes that serve one store."""

from __future__ import annotations

import click

from keyclave_cli import output
from keyclave_cli.parameters import Family
from keyclave_cli.session import Session


@click.group(cls=Family)
def node() -> None:
    """See the nodes that serve one store, and take one out of service."""


@node.command(name="list")
@click.pass_context
def list_(ctx: click.Context) -> None:
    """List the nodes: version, seal and lease, what each has yet to apply, and how its clock is.

    A node that is silent has lost the database, is frozen or was killed: it uses no key, but for decrypting with keys
    that allow it, for as long as stands under Stale.
    """
    options = ctx.ensure_object(Session)
    with options.client() as client:
        found = client.list_nodes()
    if options.json:
        output.write_json([output.plain(one) for one in found])
        return
    rows = [
        (one.id + (" *" if one.this else ""), one.address, one.version, one.schema, one.status,
         "yes" if one.sequencer else "", f"{one.lease_seconds:.1f} s", str(one.behind), f"{one.skew_seconds:+.2f} s",
         f"{one.stale_seconds:.0f} s" if one.stale_seconds else "")
        for one in found
    ]  # fmt: skip
    head = ("Node", "Address", "Version", "Schema", "Status", "Sequencer", "Lease", "Behind", "Clock", "Stale")
    output.write_table(head, rows, empty="there are none")


@node.command()
@click.option("--stop", is_flag=True, help="Take it back: the node is ready again.")
@click.pass_context
def drain(ctx: click.Context, stop: bool) -> None:
    """Have the node at this profile's address say that it is not ready; it goes on serving.

    Wait until your balancer sends it nothing more, then stop it (SIGTERM): it answers what is under way and gives back its
    leases.
    """
    options = ctx.ensure_object(Session)
    with options.client() as client:
        now = client.drain(draining=not stop)
    output.write_done(now, f"node {now.node} is {'draining' if now.draining else 'ready again'}", as_json=options.json)
