"""`keyclave self-test`: the server shows that its cryptographic module still computes what the standards say."""

from __future__ import annotations

import click

from keyclave_cli import output
from keyclave_cli.parameters import RemoteCommand
from keyclave_cli.session import Session


@click.command("self-test", cls=RemoteCommand)
@click.option("--full", is_flag=True, help="Make and try a fresh key pair of every kind too; takes seconds.")
@click.pass_context
def self_test(ctx: click.Context, full: bool) -> None:
    """Run the known-answer tests of the server's crypto module.

    A module that fails its test computes for nobody: the server wipes its keys and stops.
    """
    session = ctx.ensure_object(Session)
    with session.client() as client:
        passed = client.self_test(full=full)
    output.write_done(
        passed, f"{passed.name} {passed.version}: every known answer was computed, {passed.tested_at}", as_json=session.json
    )
