"""`keyclave use sign`, `verify`, `mac`, `verify-mac`: proofs of origin. One that does not hold is an error, exit code 1."""

from __future__ import annotations

from typing import Any

import click

from keyclave_cli import output
from keyclave_cli.parameters import RemoteCommand
from keyclave_cli.session import Session
from keyclave_cli.small import ALGORITHM, DIGESTED, FILE, KEY, RAW, VERSION, attached, read_input, write_result


@click.command(cls=RemoteCommand)
@KEY
@FILE
@ALGORITHM
@DIGESTED
@RAW
@click.pass_context
def sign(ctx: click.Context, key: str, file: str, algorithm: str | None, digested: bool, raw: bool) -> None:
    """Sign a message, or its digest."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        answer = client.sign(key, read_input(file), digested=digested, algorithm=algorithm)
    write_result(session, answer, "signature", raw=raw)


@click.command(cls=RemoteCommand)
@KEY
@FILE
@click.option("--signature", required=True, metavar="BASE64|@FILE", help="The signature, or the file it is in.")
@ALGORITHM
@DIGESTED
@VERSION
@click.pass_context
def verify(
    ctx: click.Context, key: str, file: str, signature: str, algorithm: str | None, digested: bool, version: int | None
) -> None:
    """Verify a signature; exits with 1 if it does not hold."""
    session = ctx.ensure_object(Session)
    given = attached(signature)
    with session.client() as client:
        answer = client.verify(key, read_input(file), given, digested=digested, algorithm=algorithm, version=version)
    _tell_valid(session, answer, "the signature holds")


@click.command(cls=RemoteCommand)
@KEY
@FILE
@ALGORITHM
@RAW
@click.pass_context
def mac(ctx: click.Context, key: str, file: str, algorithm: str | None, raw: bool) -> None:
    """Compute a message authentication code."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        write_result(session, client.mac(key, read_input(file), algorithm=algorithm), "mac", raw=raw)


@click.command(name="verify-mac", cls=RemoteCommand)
@KEY
@FILE
@click.option("--mac", "code", required=True, metavar="BASE64|@FILE", help="The MAC, or the file it is in.")
@ALGORITHM
@VERSION
@click.pass_context
def verify_mac(ctx: click.Context, key: str, file: str, code: str, algorithm: str | None, version: int | None) -> None:
    """Verify a MAC; exits with 1 if it does not hold."""
    session = ctx.ensure_object(Session)
    given = attached(code)
    with session.client() as client:
        answer = client.verify_mac(key, read_input(file), given, algorithm=algorithm, version=version)
    _tell_valid(session, answer, "the MAC holds")


def _tell_valid(session: Session, answer: Any, sentence: str) -> None:
    if session.json:
        output.write_json({"valid": True, **output.plain(answer)})
    else:
        output.say(sentence)


PROOFS: tuple[click.Command, ...] = (sign, verify, mac, verify_mac)
