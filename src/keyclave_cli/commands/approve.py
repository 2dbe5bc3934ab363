"""`keyclave approve`: read what somebody asks for, and sign its hash with an enrolled key."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keyclave_cli import output
from keyclave_cli.commands.authenticator import read_passphrase
from keyclave_cli.parameters import RemoteCommand
from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.session import Session

if TYPE_CHECKING:
    from keyclave_client.approval_views import Approval, Signing

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_SIGNER_SECONDS = 300  # a person finds the card, and types its PIN
_SIGNATURE = 256  # bytes of a DER signature, at most


@click.command(cls=RemoteCommand)
@click.argument("approval_id", metavar="APPROVAL")
@click.option("--key", "key_file", type=_FILE, metavar="PEM", help="Your enrolled private key, P-256 or P-384.")
@click.option("--passphrase-file", type=_FILE, help="Of the key; otherwise it is asked for.")
@click.option(
    "--signer", metavar="COMMAND", help="A program that signs with a card or module: statement on stdin, DER signature on stdout."
)
@click.option("--authenticator", metavar="ID", help="Which enrolled key that is; the newest if left out.")
@click.option("--yes", is_flag=True, help="Do not ask, once it is shown.")
@click.pass_context
def approve(
    ctx: click.Context, approval_id: str, key_file: Path | None, passphrase_file: Path | None, signer: str | None,
    authenticator: str | None, yes: bool,
) -> None:  # fmt: skip
    """Read what somebody asks for, and sign its hash with an enrolled key.

    What you sign is shown first, with its hash, computed here from the very text. Passkeys sign on the server's pages.

    \b
    keyclave approve apr_… --key me.pem
    keyclave approve apr_… --signer 'pkcs11-tool --sign -m ECDSA-SHA256 --signature-format openssl --id 01'
    """
    if (key_file is None) == (signer is None):
        raise Stop("one way to sign is needed", "give --key PEM or --signer COMMAND", USAGE)
    options = ctx.ensure_object(Session)
    with options.client() as client:
        me = client.whoami()
        signing = client.begin_signing(approval_id, authenticator or "")
        said = json.loads(signing.statement)
        if (said["approver"], said["tenant"]) != (me.principal, me.tenant) or signing.kind != "key":
            raise Stop(
                "the statement is not yours to sign with a key", "name your key with --authenticator; passkeys sign on pages"
            )
        show_signing(signing)
        if not yes:
            _ask()
        done = client.sign_approval(approval_id, signing, _by_program(signer) if signer else _by_key(key_file, passphrase_file))
    show_approval(options, done)


def show_signing(signing: Signing) -> None:
    """Show what is about to be signed, read from the text that is hashed."""
    request = json.loads(signing.canonical)
    output.note(f"{request['requester']} asks for: {request['operation']}")
    for item in request["items"]:
        output.note("  " + item_text(item))
    rule = request["rule"]
    output.note(f"because: {request['reason']}")
    output.note(f"needs {rule['count']} of {', '.join(rule['roles'])} within {rule['hours']} h")
    output.note(f"SHA-256: {sha256(signing.canonical.encode()).hexdigest()}")


def item_text(item: Any) -> str:
    """Return one act in a line: on what, with which parameters."""
    ref, label = item.get("ref", ""), item.get("label", "")
    on = f"{label} ({ref})" if label else ref
    values = {name: value for name, value in (item.get("request") or {}).items() if value not in (None, "", [], {})}
    said = ", ".join(f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items())
    revision = f" at revision {item['if_match']}" if item.get("if_match") else ""
    return f"{on}{revision}: {said}" if on else said


def show_approval(options: Session, one: Approval) -> None:
    """Show a request and who signed it."""
    if options.json:
        output.write_json(one)
        return
    counted = [f"{s['approver']}" + ("" if s["counts"] else f" (does not count: {s['why_not']})") for s in one.signatures]
    output.write_fields(
        [
            ("Approval", one.id), ("Status", one.status), ("Operation", one.operation),
            *(("Item", item_text(item)) for item in one.items),
            ("Requester", one.requester), ("Reason", one.reason),
            ("Needs", f"{one.needed} of {' and '.join(', '.join(roles) for roles in one.roles)}"),
            ("Signed", "; ".join(counted) or None), ("Until", one.expires_at),
            ("Ended", f"{one.ended_at} by {one.ended_by}" if one.ended_at else None), ("Why", one.ended_why),
            ("SHA-256", one.request_sha256),
        ]
    )  # fmt: skip


def _ask() -> None:
    if not sys.stdin.isatty():
        raise Stop("nobody is there to say that this is to be signed", "add --yes if you have read it", USAGE)
    if not click.confirm("Sign this?", err=True):
        raise Stop("nothing was signed", "deny it with `keyclave approval deny` if it must not be done")


def _by_key(file: Path | None, passphrase_file: Path | None) -> Callable[[bytes], bytes]:
    from keyclave_client.own_key import OwnKey

    assert file is not None  # noqa: S101 - one of both was given
    pem = file.read_bytes()
    return OwnKey(pem, read_passphrase(pem, passphrase_file)).sign


def _by_program(command: str) -> Callable[[bytes], bytes]:
    def sign(statement: bytes) -> bytes:
        try:
            run = subprocess.run(
                shlex.split(command), input=statement, stdout=subprocess.PIPE, timeout=_SIGNER_SECONDS, check=False
            )
        except (OSError, ValueError, subprocess.TimeoutExpired) as fault:
            raise Stop(f"the signer did not run: {fault}", "try the command by itself") from None
        if run.returncode or not 8 <= len(run.stdout) <= _SIGNATURE:
            raise Stop(f"the signer gave no signature (exit code {run.returncode})", "it writes the DER signature to stdout")
        return run.stdout

    return sign
