"""`keyclave workload`: services that call by a certificate. Registering them, enrolling, renewing, revoking."""

from __future__ import annotations

import os
from typing import Any

import click

from keyclave_cli import output
from keyclave_cli.commands.credential import scope_of, scope_text
from keyclave_cli.new_files import new_file
from keyclave_cli.parameters import Family, as_pairs, as_seconds
from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.session import Session


@click.group(cls=Family)
def workload() -> None:
    """Let services call by a certificate.

    Operators register a workload and make an enrolment token; the workload enrols with it and renews its certificate by itself.
    """


def _scope_options(command: Any) -> Any:
    for option in (
        click.option(
            "--context", "-c", "contexts", multiple=True, callback=as_pairs, metavar="NAME=VALUE",
            help="A value the encryption context must have; repeat a NAME for alternatives, * for any value.",
        ),
        click.option("--key", "-k", "keys", multiple=True, help="A key it may use: name, id, or name ending in *. Repeatable."),
        click.option("--operation", "-o", "operations", multiple=True, help="An operation it may do. Repeatable."),
    ):  # fmt: skip
        command = option(command)
    return command


@workload.command()
@click.argument("name")
@_scope_options
@click.pass_context
def register(
    ctx: click.Context, name: str, operations: tuple[str, ...], keys: tuple[str, ...], contexts: list[tuple[str, str]]
) -> None:
    """Register a workload by the name in its certificate.

    \b
    keyclave workload register spiffe://hospital.example/ehr/gateway -o encrypt -o decrypt -k 'patient-*'
    keyclave workload register 'spiffe://hospital.example/ehr/*' -o encrypt -k 'patient-*'
    """
    session = ctx.ensure_object(Session)
    scope = scope_of("application", operations, keys, contexts)
    with session.client() as client:
        made = client.register_workload(name, scope or {})
    _show(session, made, [("Workload", made.id), ("Name", made.name), ("Scope", scope_text(made.scope))])


@workload.command(name="list")
@click.pass_context
def list_(ctx: click.Context) -> None:
    """List workloads."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        found = list(client.list_workloads())
    rows = [(one.id, one.name, one.disabled_at, scope_text(one.scope)) for one in found]
    columns = ("Workload", "Name", "Disabled", "Scope")
    output.write_list(found, columns, rows, as_json=session.json, empty="there are none")


@workload.command()
@click.argument("workload_id", metavar="WORKLOAD")
@click.option("--reason", help="Why; it is recorded.")
@click.pass_context
def disable(ctx: click.Context, workload_id: str, reason: str | None) -> None:
    """Disable a workload. When this returns, its certificates and tokens open nothing."""
    _set_enabled(ctx, workload_id, False, reason)


@workload.command()
@click.argument("workload_id", metavar="WORKLOAD")
@click.option("--reason", help="Why; it is recorded.")
@click.pass_context
def enable(ctx: click.Context, workload_id: str, reason: str | None) -> None:
    """Enable a workload again."""
    _set_enabled(ctx, workload_id, True, reason)


def _set_enabled(ctx: click.Context, workload_id: str, enabled: bool, reason: str | None) -> None:
    session = ctx.ensure_object(Session)
    with session.client() as client:
        now = client.update_workload(workload_id, enabled=enabled, reason=reason)
    _show(session, now, [("Workload", now.id), ("Name", now.name), ("Disabled", now.disabled_at)])


@workload.command()
@click.argument("name")
@click.option("--uses", type=click.IntRange(1, 10_000), default=1, show_default=True, help="How many certificates.")
@click.option("--ttl", callback=as_seconds, metavar="DURATION", default="1h", show_default=True, help="How long it may be used.")
@click.option(
    "--save-token", type=click.Path(dir_okay=False), help="Write the token to this new file (0600) instead of showing it."
)
@click.pass_context
def token(ctx: click.Context, name: str, uses: int, ttl: int, save_token: str | None) -> None:
    """Make a token with which a workload enrols; it is seen once.

    \b
    keyclave workload token spiffe://hospital.example/ehr/gateway --save-token gateway.token
    """
    session = ctx.ensure_object(Session)
    with session.client() as client, new_file(save_token) as file:
        made = client.create_enrolment(name, uses=uses, ttl_seconds=ttl)
        if file is not None:
            file.write(f"{made.token}\n".encode())
    shown = output.plain(made)
    if save_token:
        shown.pop("token")
    if session.json:
        output.write_json(shown)
        return
    output.write_fields([("Enrolment", made.id), ("For", made.name), ("Uses", made.uses), ("Until", made.expires_at)])
    if not save_token:
        output.write_fields([("Token", made.token)])
        output.note("  next: hand it to the workload, which runs `keyclave workload enrol`; it is not shown again")


@workload.command()
@click.pass_context
def tokens(ctx: click.Context) -> None:
    """List enrolment tokens, without the tokens."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        found = list(client.list_enrolments())
    if session.json:
        output.write_json([{k: v for k, v in output.plain(one).items() if k not in ("token", "event")} for one in found])
        return
    rows = [(one.id, one.name, f"{one.used} of {one.uses}", one.expires_at, one.revoked_at) for one in found]
    output.write_table(("Enrolment", "For", "Used", "Until", "Revoked"), rows, empty="there are none")


@workload.command(name="revoke-token")
@click.argument("enrolment", metavar="ENROLMENT")
@click.option("--reason", help="Why; it is recorded.")
@click.pass_context
def revoke_token(ctx: click.Context, enrolment: str, reason: str | None) -> None:
    """Revoke an enrolment token. When this returns, nothing more is issued against it."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        gone = client.revoke_enrolment(enrolment, reason)
    _show(session, gone, [("Enrolment", gone.id), ("Revoked", gone.revoked_at)])


_FILES = (
    click.option("--certificate-out", default="workload.pem", show_default=True, help="Where the certificate is kept."),
    click.option("--key-out", default="workload.key", show_default=True, help="Where its private key is kept (0600)."),
    click.option("--ttl", callback=as_seconds, metavar="DURATION", default="24h", show_default=True, help="How long it lives."),
)


def _files(command: Any) -> Any:
    for option in reversed(_FILES):
        command = option(command)
    return command


@workload.command()
@_files
@click.option("--name", help="The SPIFFE ID, where the token stands for several.")
@click.pass_context
def enrol(ctx: click.Context, certificate_out: str, key_out: str, ttl: int, name: str | None) -> None:
    """Get a certificate with an enrolment token, or an issuer's token, in --token-file.

    \b
    keyclave workload enrol --url https://kms.hospital.example:8444 --token-file gateway.token
    """
    _enrol(ctx, certificate_out, key_out, ttl, name)


@workload.command()
@_files
@click.option("--if-due", is_flag=True, help="Do nothing while less than half of its life is over.")
@click.pass_context
def renew(ctx: click.Context, certificate_out: str, key_out: str, ttl: int, if_due: bool) -> None:
    """Get the next certificate with the live one, which is replaced.

    \b
    keyclave workload renew --url https://kms.hospital.example:8444 --if-due
    """
    from keyclave_client.enrolment import is_due

    session = ctx.ensure_object(Session)
    session.cert, session.cert_key = session.cert or certificate_out, session.cert_key or key_out
    for path in (session.cert, session.cert_key):
        if not os.path.isfile(path):
            raise Stop(f"{path}: there is no such file", "enrol first: `keyclave workload enrol`", USAGE)
    if if_due and not is_due(session.cert):
        output.note(f"{session.cert} is not due yet")
        return
    _enrol(ctx, certificate_out, key_out, ttl, None)


def _enrol(ctx: click.Context, certificate_out: str, key_out: str, ttl: int, name: str | None) -> None:
    from keyclave_client import enrolment

    session = ctx.ensure_object(Session)
    with session.client() as client:
        made = enrolment.enrol(client, certificate_out, key_out, name=name, ttl_seconds=ttl)
    _show(session, made, [("Certificate", made.id), ("Name", made.name), ("Until", made.not_after), ("Renew", made.renew_after)])


@workload.command()
@click.option("--name", help="Those of one workload only.")
@click.pass_context
def certificates(ctx: click.Context, name: str | None) -> None:
    """List certificates that were issued."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        found = list(client.list_certificates(name))
    if session.json:
        output.write_json([{k: v for k, v in output.plain(one).items() if v is not None} for one in found])
        return
    rows = [(one.id, one.name, one.source, one.not_after, one.revoked_at) for one in found]
    output.write_table(("Certificate", "Name", "Against", "Until", "Revoked"), rows, empty="there are none")


@workload.command()
@click.argument("certificate", metavar="CERTIFICATE")
@click.option("--outside", is_flag=True, help="It is one of another authority: block it by its id.")
@click.option("--reason", help="Why; it is recorded.")
@click.pass_context
def revoke(ctx: click.Context, certificate: str, outside: bool, reason: str | None) -> None:
    """Revoke a certificate. When this returns, it and the tokens bound to it open nothing."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        gone = client.revoke_certificate(certificate, reason, outside=outside)
    _show(session, gone, [("Certificate", gone.id), ("Name", gone.name), ("Revoked", gone.revoked_at)])


@workload.command(name="authority")
@click.option("--tenant", help="Another tenant's.")
@click.pass_context
def authority(ctx: click.Context, tenant: str | None) -> None:
    """Print the certificates (PEM) under which workloads stand."""
    session = ctx.ensure_object(Session)
    with session.client(authenticated=False) as client:
        bundle = client.authority_bundle(tenant)
    if session.json:
        output.write_json({"certificates": bundle})
    else:
        output.say(bundle.rstrip())


@workload.command(name="authority-renew")
@click.pass_context
def authority_renew(ctx: click.Context) -> None:
    """Make the next certificate authority; those before are believed until they end."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        made = client.renew_authority()
    _show(session, made, [("Authority", made.id), ("Trust domain", made.trust_domain), ("Until", made.not_after)])


@workload.command()
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--authority", "authority_id", help="Of this authority instead of the one that issues.")
@click.pass_context
def crl(ctx: click.Context, file: str, authority_id: str | None) -> None:
    """Write the certificate revocation list (DER) to FILE."""
    session = ctx.ensure_object(Session)
    with session.client(authenticated=False) as client:
        found = client.revocation_list(authority_id)
    with open(file, "wb") as target:
        target.write(found)
    if session.json:
        output.write_json({"file": file, "bytes": len(found)})
    else:
        output.say(f"wrote {file}")


def _show(session: Session, answer: Any, fields: list[tuple[str, Any]]) -> None:
    if session.json:
        output.write_json({name: value for name, value in output.plain(answer).items() if value is not None})
    else:
        output.write_fields(fields)
