"""`keyclave tenant`: further organisations on the same server, with keys and people of their own."""

from __future__ import annotations

from contextlib import ExitStack

import click

from keyclave_cli import output
from keyclave_cli.parameters import Family
from keyclave_cli.session import Session

FIRST_PEOPLE = ("custodian", "operator", "auditor")


@click.group(cls=Family)
def tenant() -> None:
    """Create tenants.

    A tenant is an organisation on the same server, with keys and people of its own.
    """


@tenant.command()
@click.argument("name")
@click.option(
    "--save-profiles", is_flag=True, help="Keep the first credentials as profiles NAME-custodian, …, and do not show them."
)
@click.pass_context
def create(ctx: click.Context, name: str, save_profiles: bool) -> None:
    """Create a tenant, and hand out its first credentials.

    Only custodians of the home tenant may. The credentials are shown once.
    """
    from keyclave_cli import profiles

    session = ctx.ensure_object(Session)
    connection = session.connection()
    home = session.local_home()
    with session.client() as client, ExitStack() as kept:
        for role in FIRST_PEOPLE if save_profiles else ():
            kept.enter_context(profiles.new_profile(f"{name}-{role}", home))
        made = client.create_tenant(name)
        for one in made.credentials if save_profiles else ():
            target = f"{name}-{one.role}"
            profiles.write_profile(target, home, connection.url, connection.ca_file, one.token, replace=True)
            output.note(f"made profile {target}")
    if save_profiles:
        if session.json:
            output.write_json({"tenant": made.tenant, "profiles": [f"{name}-{one.role}" for one in made.credentials]})
        else:
            output.say(f"created tenant {made.tenant}")
    elif session.json:
        output.write_json(made)
    else:
        output.say(f"created tenant {made.tenant}")
        output.write_table(("Principal", "Role", "Token"), [(c.principal, c.role, c.token) for c in made.credentials], empty="")
        output.note("  next: give each person their own token, and keep none; they are not shown again")
