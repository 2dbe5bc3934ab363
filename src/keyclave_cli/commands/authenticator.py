"""`keyclave authenticator`: what somebody proves themselves with. Passkeys are enrolled on the server's pages, keys here."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from keyclave_cli import output
from keyclave_cli.parameters import Family
from keyclave_cli.problems import Stop
from keyclave_cli.session import Session


@click.group(cls=Family)
def authenticator() -> None:
    """List, enrol and revoke what you prove yourself with.

    Passkeys are enrolled in a browser, at /ui/account; a key that signs approvals on the command line is enrolled here.
    """


@authenticator.command(name="list")
@click.option("--principal", metavar="NAME", default="", help="Whose; your own if left out.")
@click.option("--all", "everything", is_flag=True, help="Also those that were revoked.")
@click.pass_context
def list_(ctx: click.Context, principal: str, everything: bool) -> None:
    """List authenticators."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        found = client.list_authenticators(principal)
    shown = [one for one in found.authenticators if everything or one.revoked_at is None]
    if options.json:
        output.write_json({"authenticators": output.plain(shown), "recovery_codes": found.recovery_codes})
        return
    rows = [(one.id, one.kind, one.label, one.aal, one.synced, one.enrolled_at, one.used_at, one.revoked_why) for one in shown]
    columns = ("Authenticator", "Kind", "Label", "Level", "Synced", "Enrolled", "Last used", "Revoked")
    output.write_table(columns, rows, empty="there are none")
    if found.recovery_codes:
        output.note(f"  {output.count_text(found.recovery_codes, 'recovery code')} left")


@authenticator.command(name="enrol-key")
@click.argument("key_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="PEM")
@click.option("--label", default="", help="What you call it.")
@click.option(
    "--passphrase-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Otherwise it is asked for."
)
@click.pass_context
def enrol_key(ctx: click.Context, key_file: Path, label: str, passphrase_file: Path | None) -> None:
    """Enrol a private key (PEM, P-256 or P-384) that signs what you approve. The key stays in its file.

    \b
    openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -out me.pem
    keyclave authenticator enrol-key me.pem --label laptop
    """
    from keyclave_client.own_key import OwnKey

    pem = key_file.read_bytes()
    key = OwnKey(pem, read_passphrase(pem, passphrase_file))
    options = ctx.ensure_object(Session)
    with options.client() as client:
        made = client.enrol_key(key.public_key, key.sign, label)
    if options.json:
        output.write_json(made)
    else:
        output.write_fields([("Authenticator", made.id), ("Kind", made.kind), ("Public key", f"SHA-256 {made.public_sha256}")])


def read_passphrase(pem: bytes, file: Path | None) -> bytes | None:
    """Return the passphrase of a private key: from a file, or asked for; None where the key has none."""
    if file is not None:
        return file.read_bytes().rstrip(b"\r\n")
    if b"ENCRYPTED" not in pem:
        return None
    if not sys.stdin.isatty():
        raise Stop("the key has a passphrase, and nobody is there to ask", "give --passphrase-file")
    text: str = click.prompt("Passphrase", hide_input=True, err=True)
    return text.encode()


@authenticator.command()
@click.argument("authenticator_id", metavar="AUTHENTICATOR")
@click.option("--reason", default="", help="Why; it is recorded.")
@click.option("--anyway", is_flag=True, help="Even where too few people are left to approve anything.")
@click.pass_context
def revoke(ctx: click.Context, authenticator_id: str, reason: str, anyway: bool) -> None:
    """Revoke an authenticator. The sessions it opened end with it; what it signed stays signed."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        gone = client.revoke_authenticator(authenticator_id, reason, anyway=anyway)
    output.write_done(gone, f"{gone.kind} {gone.id} of {gone.principal} is revoked", as_json=options.json)
