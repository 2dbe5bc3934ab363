"""`keyclave openapi`: the server's description of itself, for tools."""

from __future__ import annotations

import click

from keyclave_cli import output
from keyclave_cli.parameters import RemoteCommand
from keyclave_cli.session import Session


@click.command(cls=RemoteCommand)
@click.pass_context
def openapi(ctx: click.Context) -> None:
    """Print the server's OpenAPI description."""
    with ctx.ensure_object(Session).client(authenticated=False) as client:
        output.write_json(client.openapi())
