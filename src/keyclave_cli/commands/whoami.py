"""`keyclave whoami`: who the server thinks is asking, how surely, and until when."""

from __future__ import annotations

import click

from keyclave_cli import output
from keyclave_cli.commands.elevation import clock_text
from keyclave_cli.parameters import RemoteCommand
from keyclave_cli.session import Session


@click.command(cls=RemoteCommand)
@click.pass_context
def whoami(ctx: click.Context) -> None:
    """Show who the server thinks is asking, how surely, and until when."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        me = client.whoami()
    if session.json:
        output.write_json(me)
        return
    running = me.elevation
    further = ", ".join(role for role in me.roles if role != me.role)
    output.write_fields(
        [
            ("Principal", me.principal),
            ("Role", me.role),
            ("Further roles", further or None),
            ("Assurance", f"level {me.aal}" + (f", by {me.how}" if me.how else ", by bearer credential")),
            ("Presence proved", me.stepped_up_at),
            ("Taken on", running and f"{running['role']}, {clock_text(running['seconds_left'])} left: {running['reason']}"),
            ("Alarms", me.alarms or None),
            ("Until", me.expires_at),
            ("Credential", me.credential),
            ("Tenant", me.tenant),
        ]
    )
    if me.alarms:
        output.note("  next: the glass was broken: keyclave alarm list")
    if me.enrolling:
        output.note("  next: this session is good for enrolling alone; enrol a passkey, then log in with it")
