"""`keyclave person`: inviting people, and who may no longer come in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from keyclave_cli import output
from keyclave_cli.new_files import new_file
from keyclave_cli.parameters import Family, as_seconds
from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.session import Session

if TYPE_CHECKING:
    from keyclave_client.people_views import Person

DUTIES = ("person", "custodian", "operator", "auditor")


@click.group(cls=Family)
def person() -> None:
    """Invite people, and say who may no longer come in.

    Two people let a third one in: who invites gets the token, and somebody else confirms.
    """


@person.command()
@click.argument("principal")
@click.option("--role", type=click.Choice(DUTIES), default="person", show_default=True, help="The duty they are invited for.")
@click.option("--further-role", "roles", multiple=True, help="A further role of that duty. Repeatable.")
@click.option(
    "--ttl", callback=as_seconds, metavar="DURATION", default="24h", show_default=True, help="How long it holds, in whole hours."
)
@click.option("--reason", default="", help="Why; it is recorded.")
@click.option(
    "--save-token", type=click.Path(dir_okay=False), help="Write the token to this new file (0600) instead of showing it."
)
@click.pass_context
def invite(
    ctx: click.Context, principal: str, role: str, roles: tuple[str, ...], ttl: int, reason: str, save_token: str | None
) -> None:
    """Invite a person; the token is seen once, and opens nothing until somebody else confirms."""
    options = ctx.ensure_object(Session)
    if ttl % 3600 or not 3600 <= ttl <= 168 * 3600:
        raise Stop("an invitation holds for 1 to 168 whole hours", "say --ttl 24h", USAGE)
    with options.client() as client, new_file(save_token) as file:
        made = client.invite(principal, role, roles=roles, hours=ttl // 3600, reason=reason)
        shown = output.plain(made)
        if file is not None:
            file.write(f"{shown.pop('token')}\n".encode())
    if options.json:
        output.write_json(shown)
        return
    fields = [
        ("Invitation", made.id),
        ("For", made.principal),
        ("Role", made.role),
        ("Until", made.expires_at),
        ("State", made.state),
    ]
    output.write_fields([*fields, ("Token", shown.get("token"))])
    if made.state == "waiting":
        output.note(f"  next: somebody else confirms it: keyclave person confirm {made.id}")
    output.note("  hand the token over safely; it is given at /ui/enrol, and not shown again")


@person.command()
@click.option("--all", "everything", is_flag=True, help="Also those that are over.")
@click.pass_context
def invitations(ctx: click.Context, everything: bool) -> None:
    """List invitations; tokens are not among what the server knows."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        found = [one for one in client.list_invitations() if everything or one.state in ("waiting", "open")]
    if options.json:
        output.write_json([{name: value for name, value in output.plain(one).items() if name != "token"} for one in found])
        return
    rows = [(one.id, one.principal, one.role, one.state, one.invited_by, one.confirmed_by, one.expires_at) for one in found]
    columns = ("Invitation", "For", "Role", "State", "Invited by", "Confirmed by", "Until")
    output.write_table(columns, rows, empty="there are none")


@person.command()
@click.argument("invitation")
@click.option("--reason", default="", help="Why; it is recorded.")
@click.pass_context
def confirm(ctx: click.Context, invitation: str, reason: str) -> None:
    """Stand behind an invitation that somebody else made: its token opens an enrolment from now on."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        done = client.confirm_invitation(invitation, reason)
    output.write_done(done, f"{done.principal} can enrol until {done.expires_at}", as_json=options.json)


@person.command()
@click.argument("invitation")
@click.option("--reason", default="", help="Why; it is recorded.")
@click.pass_context
def uninvite(ctx: click.Context, invitation: str, reason: str) -> None:
    """Take an invitation back that was not used."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        done = client.revoke_invitation(invitation, reason)
    output.write_done(done, f"the invitation for {done.principal} is revoked", as_json=options.json)


@person.command(name="list")
@click.pass_context
def list_(ctx: click.Context) -> None:
    """List people."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        found = list(client.list_people())
    rows = [(one.principal, one.role, ", ".join(one.roles), _proofs(one), one.disabled_at) for one in found]
    columns = ("Principal", "Role", "Further roles", "Authenticators", "Disabled")
    output.write_list(found, columns, rows, as_json=options.json, empty="there are none")


@person.command()
@click.argument("principal")
@click.pass_context
def show(ctx: click.Context, principal: str) -> None:
    """Describe a person."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        _write(options, client.get_person(principal))


@person.command()
@click.argument("principal")
@click.option("--reason", default="", help="Why; it is recorded.")
@click.option("--anyway", is_flag=True, help="Even where too few people are left to approve anything.")
@click.pass_context
def disable(ctx: click.Context, principal: str, reason: str, anyway: bool) -> None:
    """Disable a person. When this returns, no session, credential or passkey of theirs is taken."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        _write(options, client.disable_person(principal, reason, anyway=anyway))


@person.command()
@click.argument("principal")
@click.option("--reason", default="", help="Why; it is recorded.")
@click.pass_context
def enable(ctx: click.Context, principal: str, reason: str) -> None:
    """Enable a person again: two people stand behind it, like behind an invitation. Sessions that ended stay ended.

    \b
    keyclave approval request person-enable ann --reason "back from leave"
    keyclave --approval apr_… person enable ann
    """
    options = ctx.ensure_object(Session)
    with options.client() as client:
        _write(options, client.enable_person(principal, reason))


@person.command()
@click.argument("principal")
@click.option("--give", multiple=True, help="A role of the person's duty to give. Repeatable.")
@click.option("--take", multiple=True, help="A role to take away. Repeatable.")
@click.option("--reason", default="", help="Why; it is recorded.")
@click.pass_context
def roles(ctx: click.Context, principal: str, give: tuple[str, ...], take: tuple[str, ...], reason: str) -> None:
    """Give and take roles beside the duty; never one's own."""
    if not give and not take:
        raise Stop("there is nothing to change", "say --give ROLE or --take ROLE", USAGE)
    options = ctx.ensure_object(Session)
    with options.client() as client:
        _write(options, client.change_roles(principal, give=give, take=take, reason=reason))


def _write(options: Session, one: Person) -> None:
    if options.json:
        output.write_json(one)
        return
    output.write_fields(
        [
            ("Principal", one.principal),
            ("Role", one.role),
            ("Further roles", ", ".join(one.roles) or None),
            ("Authenticators", _proofs(one)),
            ("Since", one.created_at),
            ("Disabled", one.disabled_at),
        ]
    )


def _proofs(one: Person) -> str | None:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(one.authenticators.items())) or None
