"""`keyclave credential`: who may do what, until when."""

from __future__ import annotations

from typing import Any

import click

from keyclave_cli import output
from keyclave_cli.new_files import new_file
from keyclave_cli.parameters import Family, as_pairs, as_seconds
from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.session import Session

ROLES = ("custodian", "operator", "auditor", "application")


@click.group(cls=Family)
def credential() -> None:
    """Issue, list and revoke credentials.

    Operators issue them for applications, custodians for people; nobody for themselves.
    """


@credential.command()
@click.argument("principal")
@click.option(
    "--role", type=click.Choice(ROLES), default="application", show_default=True, help="What the principal is here for."
)
@click.option(
    "--ttl", callback=as_seconds, metavar="DURATION", default="30d", show_default=True, help="How long it lives: 15m, 8h, 30d."
)
@click.option("--operation", "-o", "operations", multiple=True, help="An operation the application may do. Repeatable.")
@click.option("--key", "-k", "keys", multiple=True, help="A key it may use: name, id, or name ending in *. Repeatable.")
@click.option(
    "--context",
    "-c",
    "contexts",
    multiple=True,
    callback=as_pairs,
    metavar="NAME=VALUE",
    help="A value the encryption context must have; repeat a NAME for alternatives, * for any value.",
)
@click.option(
    "--save-token", type=click.Path(dir_okay=False), help="Write the token to this new file (0600) instead of showing it."
)
@click.option("--save-profile", metavar="NAME", help="Keep it as a profile for this server instead of showing it.")
@click.pass_context
def issue(
    ctx: click.Context, principal: str, role: str, ttl: int, operations: tuple[str, ...], keys: tuple[str, ...],
    contexts: list[tuple[str, str]], save_token: str | None, save_profile: str | None,
) -> None:  # fmt: skip
    """Issue a credential to a principal; its token is seen once.

    \b
    keyclave credential issue ward-3-viewer --ttl 8h -o unwrap -k 'patient-*' -c purpose=treatment --save-token ward-3.token
    """
    from keyclave_cli import profiles

    session = ctx.ensure_object(Session)
    connection = session.connection()
    scope = scope_of(role, operations, keys, contexts)
    home = session.local_home()
    with session.client() as client, profiles.new_profile(save_profile, home), new_file(save_token) as file:
        issued = client.issue_credential(principal, role, ttl, scope)
        shown = output.plain(issued)
        token = shown.pop("token")
        if file is not None:
            file.write(f"{token}\n".encode())
        if save_profile:
            profiles.write_profile(save_profile, home, connection.url, connection.ca_file, token, replace=True)
    if not save_token and not save_profile:
        shown["token"] = token
    if session.json:
        output.write_json(shown)
        return
    output.write_fields(
        [("Credential", issued.id), ("For", issued.principal), ("Role", issued.role), ("Until", issued.expires_at)]
    )
    if "token" in shown:
        output.write_fields([("Token", token)])
        output.note(
            "  next: hand the token over safely; it is not shown again. --save-token and --save-profile keep it off the screen"
        )


def scope_of(
    role: str, operations: tuple[str, ...], keys: tuple[str, ...], contexts: list[tuple[str, str]]
) -> dict[str, Any] | None:
    """Return a scope as the options state it; None for people, who have none."""
    if role != "application":
        if operations or keys or contexts:
            raise Stop(
                f"a credential for {role} has no scope",
                "leave out --operation, --key and --context: its duties are those of the role",
                USAGE,
            )
        return None
    if not operations or not keys:
        raise Stop("an application's credential needs a scope", "give at least one --operation and one --key", USAGE)
    values: dict[str, list[str]] = {}
    for name, value in contexts:
        values.setdefault(name, []).append(value)
    return {"operations": list(operations), "keys": list(keys), "context": values}


@credential.command(name="list")
@click.option("--all", "everything", is_flag=True, help="Also those that were revoked.")
@click.pass_context
def list_(ctx: click.Context, everything: bool) -> None:
    """List credentials; tokens are not among what the server knows."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        found = [one for one in client.list_credentials() if everything or one.revoked_at is None]
    if session.json:
        output.write_json(
            [{name: value for name, value in output.plain(one).items() if name not in ("token", "event")} for one in found]
        )
        return
    rows = [(c.id, c.principal, c.role, c.expires_at, c.revoked_at, scope_text(c.scope)) for c in found]
    output.write_table(("Credential", "Principal", "Role", "Until", "Revoked", "Scope"), rows, empty="there are none")


def scope_text(scope: Any) -> str | None:
    """Return a scope in one line."""
    if not scope:
        return None
    bound = "".join(f" where {name} is {' or '.join(values)}" for name, values in (scope.get("context") or {}).items())
    return f"{', '.join(scope.get('operations', ()))} on {', '.join(scope.get('keys', ()))}{bound}"


@credential.command()
@click.argument("credential_id", metavar="CREDENTIAL")
@click.option("--reason", help="Why; it is recorded.")
@click.pass_context
def revoke(ctx: click.Context, credential_id: str, reason: str | None) -> None:
    """Revoke a credential. When this returns, its token opens nothing."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        gone = client.revoke_credential(credential_id, reason)
    if session.json:
        output.write_json(gone)
    else:
        output.say(f"revoked {gone.id}" + (f" of {gone.principal}" if gone.principal else ""))


@credential.command()
@click.pass_context
def whoami(ctx: click.Context) -> None:
    """Show who the server takes you for."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        me = client.whoami()
    if session.json:
        output.write_json(me)
        return
    output.write_fields(
        [
            ("Principal", me.principal), ("Role", me.role), ("Tenant", me.tenant), ("Credential", me.credential),
            ("Until", me.expires_at), ("Scope", scope_text(me.scope)),
        ]
    )  # fmt: skip
