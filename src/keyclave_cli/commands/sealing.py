"""`keyclave unseal` and `keyclave seal`."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from keyclave_cli import output
from keyclave_cli.parameters import RemoteCommand
from keyclave_cli.problems import NO_SERVER, USAGE, Stop, describe, show
from keyclave_cli.session import Session

if TYPE_CHECKING:
    from keyclave_client import Client
    from keyclave_client.views import Unsealing

_ARMOUR = "-----BEGIN "
_SHARE_BYTES = 65_536
_LIMITED = 1.0  # seconds


@click.command(cls=RemoteCommand)
@click.option(
    "--share-file",
    "share_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="File with a share, plain or protected; - for stdin. Repeatable.",
)
@click.option(
    "--open-with",
    metavar="KEYFILE|passphrase",
    default="passphrase",
    show_default=True,
    help="What opens protected share files: the custodian's private key, or a passphrase that is asked for.",
)
@click.pass_context
def unseal(ctx: click.Context, share_files: tuple[str, ...], open_with: str) -> None:
    """Give custodians' shares until the server is open.

    Asks for shares one after the other, with hidden input, until enough are there. A share never goes on the command
    line. Protected share files are opened on this machine; the server gets the share. No credential is needed: the
    share is the authority, and each one given is in the record. Exits with 3 while shares are missing.

    \b
    keyclave unseal
    keyclave unseal --share-file share-2.txt --open-with custodian-2.key
    """
    session = ctx.ensure_object(Session)
    with session.client(authenticated=False) as client:
        before = client.status()
        if not before.sealed:
            _tell_open(session)
            return
        asking = not share_files and sys.stdin.isatty()
        received, threshold = before.unseal.get("received", 0), before.unseal.get("threshold", 0)
        if asking:
            output.note(f"{received} of {threshold} shares are there")
        shares = _ask() if asking else _given(share_files or ("-",), open_with)
        for share in shares:
            at = _give(session, client, share, forgiving=asking)
            if at is None:
                continue
            if not at.sealed:
                _tell_open(session)
                return
            _tell(session, at)
    ctx.exit(NO_SERVER)  # sealed, for a script to see


def _give(session: Session, client: Client, share: str, *, forgiving: bool) -> Unsealing | None:
    """Give one share. None if it was refused and somebody is there to type it again: that is no reason to begin anew."""
    while True:
        try:
            return client.unseal(share)
        except Exception as error:
            problem = describe(error)
            if not forgiving or problem is None or problem.code not in ("malformed", "refused", "conflict", "limit_reached"):
                raise
            show(problem, as_json=session.json)
            if problem.code != "limit_reached":
                return None
        time.sleep(_LIMITED)  # after a wrong share the server takes none for a moment; the one in hand is not wrong


def _tell(session: Session, at: Unsealing) -> None:
    if session.json:
        output.write_json(at)
    else:
        output.say(f"{at.received} of {at.threshold}: the server is still sealed")
        missing = output.count_text(at.threshold - at.received, "share is missing", "shares are missing")
        output.note(f"  next: {missing}; `keyclave status` says how far it is")


def _tell_open(session: Session) -> None:
    if session.json:
        output.write_json({"sealed": False})
    else:
        output.say("the server is open")


def _ask() -> Iterator[str]:
    """Yield shares that are typed in, for as long as somebody asks for one more."""
    while True:
        share = click.prompt("Share", hide_input=True, err=True).strip()
        if share:
            yield share


def _given(files: tuple[str, ...], open_with: str) -> Iterator[str]:
    """Yield the shares in files, and those in stdin, one a line."""
    for name in files:
        with click.open_file(name, encoding="utf-8", errors="replace") as file:
            text = file.read(_SHARE_BYTES)
        if not text.strip():
            raise Stop(
                "no share was given" if name == "-" else f"{name}: no share is in it",
                "run it at a terminal to be asked, or give --share-file FILE; a pipe holds one share on each line",
                USAGE,
            )
        if not text.lstrip().startswith(_ARMOUR):
            yield from (line.strip() for line in text.splitlines() if line.strip())
        elif name == "-":
            raise Stop("a protected share cannot come through a pipe", "give it as --share-file FILE", USAGE)
        else:
            yield _opened(name, open_with)


def _opened(name: str, open_with: str) -> str:
    """Have the server's own program open a protected share here: it knows the formats, this command line does not."""
    from keyclave_cli.commands.programs import interpreter

    command = [*interpreter(), "open-share", name]
    if open_with != "passphrase":
        command += ["--key", open_with]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    share = done.stdout.decode("ascii", "replace").strip()
    if done.returncode != 0 or not share:
        raise Stop(f"{name} does not open", "check the passphrase or --open-with KEYFILE; each file opens for one custodian only")
    return share


@click.command(cls=RemoteCommand)
@click.pass_context
def seal(ctx: click.Context) -> None:
    """Make the server forget its root key.

    Every key stops at once, for everybody, until custodians unseal the server again. For emergencies.
    """
    session = ctx.ensure_object(Session)
    with session.client() as client:
        client.seal()
    if session.json:
        output.write_json({"sealed": True})
    else:
        output.say("the server is sealed; custodians open it with `keyclave unseal`")
