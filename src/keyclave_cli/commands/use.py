"""`keyclave use`: keys used where they are, on data of up to 64 KiB from stdin or a file."""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, replace
from typing import Any

import click

from keyclave_cli import output
from keyclave_cli.parameters import Decorator, Family, as_map, context_option
from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.session import Session

_LARGEST = 128 * 1024  # characters: 64 KiB in base64, with its envelope


@click.group(cls=Family)
def use() -> None:
    """Use a key on small data: encrypt, sign, MAC.

    The data travels to the server and is at most 64 KiB (files of any size: `keyclave encrypt`). Input is FILE, or
    stdin. Ciphertexts, signatures and MACs are base64 unless --raw.
    """


_key: Decorator = click.argument("key", metavar="KEY")
_file: Decorator = click.argument(
    "file", metavar="[FILE]", default="-", type=click.Path(exists=True, dir_okay=False, allow_dash=True)
)
_raw: Decorator = click.option("--raw", is_flag=True, help="Bytes instead of base64.")
_algorithm: Decorator = click.option("--algorithm", help="Else the key's usual one.")
_digested: Decorator = click.option("--digested", is_flag=True, help="The input is the message's digest already.")
_version: Decorator = click.option("--version", type=click.IntRange(min=1), metavar="N", help="Else the primary one.")


def read_input(file: str) -> bytes:
    """Return what is in a file or stdin."""
    from keyclave_cli.files.pipes import binary_stdin

    if file == "-":
        data = binary_stdin().read(_LARGEST + 1)
    else:
        with open(file, "rb") as source:
            data = source.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise Stop(
            "that is more than a key is used on in place",
            "encrypt files with `keyclave encrypt`; sign the digest of a large message",
        )
    return data


def decoded(data: bytes, *, raw: bool) -> bytes:
    """Return the bytes behind base64 text, or `data` itself when it is raw."""
    if raw:
        return data
    try:
        return binascii.a2b_base64(b"".join(data.split()), strict_mode=True)
    except binascii.Error:
        raise Stop("the input is not base64", "feed in what was printed, or use --raw for bytes", USAGE) from None


def write_result(session: Session, answer: Any, field: str, *, raw: bool) -> None:
    """Write one binary field of an answer: base64, bytes, or the whole answer as JSON."""
    if session.json:
        output.write_json(answer)
        return
    value: bytes = getattr(answer, field)
    if raw:
        from keyclave_cli.files.pipes import binary_stdout

        sink = binary_stdout(f"a raw {field}")
        sink.write(value)
        sink.flush()
    else:
        output.say(base64.b64encode(value).decode())


@use.command()
@_key
@_file
@context_option()
@_raw
@click.pass_context
def encrypt(ctx: click.Context, key: str, file: str, context: dict[str, str], raw: bool) -> None:
    """Encrypt small data on the server."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        write_result(session, client.encrypt(key, read_input(file), context), "ciphertext", raw=raw)


@use.command()
@_key
@_file
@context_option("Encryption context, as it was given to encrypt. Repeatable.")
@_raw
@click.pass_context
def decrypt(ctx: click.Context, key: str, file: str, context: dict[str, str], raw: bool) -> None:
    """Decrypt small data on the server; the plaintext is written as it is."""
    from keyclave_cli.files.pipes import PlaintextOut

    session = ctx.ensure_object(Session)
    with session.client() as client:
        answer = client.decrypt(key, decoded(read_input(file), raw=raw), context)
    if session.json:
        output.write_json(answer)
        return
    sink = PlaintextOut()
    sink.write(answer.plaintext)
    sink.close()


@use.command(name="re-encrypt")
@_key
@_file
@context_option("Encryption context it has now. Repeatable.")
@click.option("--to-key", metavar="TO", help="Another key to move it to.")
@click.option(
    "--to-context",
    multiple=True,
    callback=as_map,
    metavar="NAME=VALUE",
    help="Another context to bind it to, the whole of it. Repeatable.",
)
@_raw
@click.pass_context
def re_encrypt(
    ctx: click.Context, key: str, file: str, context: dict[str, str], to_key: str | None, to_context: dict[str, str], raw: bool
) -> None:
    """Move a ciphertext to the newest version, another key or context."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        ciphertext = decoded(read_input(file), raw=raw)
        answer = client.re_encrypt(key, ciphertext, context, to_key=to_key, to_context=to_context or None)
    write_result(session, answer, "ciphertext", raw=raw)


@use.command()
@_key
@_file
@_algorithm
@_digested
@_raw
@click.pass_context
def sign(ctx: click.Context, key: str, file: str, algorithm: str | None, digested: bool, raw: bool) -> None:
    """Sign a message, or its digest."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        answer = client.sign(key, read_input(file), digested=digested, algorithm=algorithm)
    write_result(session, answer, "signature", raw=raw)


@use.command()
@_key
@_file
@click.option("--signature", required=True, metavar="BASE64|@FILE", help="The signature, or the file it is in.")
@_algorithm
@_digested
@_version
@click.pass_context
def verify(
    ctx: click.Context, key: str, file: str, signature: str, algorithm: str | None, digested: bool, version: int | None
) -> None:
    """Verify a signature; exits with 1 if it does not hold."""
    session = ctx.ensure_object(Session)
    given = _attached(signature)
    with session.client() as client:
        answer = client.verify(key, read_input(file), given, digested=digested, algorithm=algorithm, version=version)
    _tell_valid(session, answer, "the signature holds")


@use.command()
@_key
@_file
@_algorithm
@_raw
@click.pass_context
def mac(ctx: click.Context, key: str, file: str, algorithm: str | None, raw: bool) -> None:
    """Compute a message authentication code."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        write_result(session, client.mac(key, read_input(file), algorithm=algorithm), "mac", raw=raw)


@use.command(name="verify-mac")
@_key
@_file
@click.option("--mac", "code", required=True, metavar="BASE64|@FILE", help="The MAC, or the file it is in.")
@_algorithm
@_version
@click.pass_context
def verify_mac(ctx: click.Context, key: str, file: str, code: str, algorithm: str | None, version: int | None) -> None:
    """Verify a MAC; exits with 1 if it does not hold."""
    session = ctx.ensure_object(Session)
    given = _attached(code)
    with session.client() as client:
        answer = client.verify_mac(key, read_input(file), given, algorithm=algorithm, version=version)
    _tell_valid(session, answer, "the MAC holds")


@use.command()
@click.argument("count", metavar="BYTES", type=click.IntRange(1, 1024))
@click.option("--hex", "in_hex", is_flag=True, help="Hexadecimal instead of base64.")
@_raw
@click.pass_context
def random(ctx: click.Context, count: int, in_hex: bool, raw: bool) -> None:
    """Draw random bytes from the server's generator."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        drawn = client.random(count)
    if in_hex and not session.json:
        output.say(drawn.hex())
    else:
        write_result(session, _Random(drawn), "random", raw=raw)


@dataclass(frozen=True)
class _Random:
    random: bytes


@use.command(name="data-key")
@_key
@context_option()
@click.option("--bytes", "size", type=click.IntRange(16, 1024), default=32, show_default=True, help="Its length.")
@click.option(
    "--save-plain",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Also write the plain key, raw, to this new file (0600). It is never printed.",
)
@_raw
@click.pass_context
def data_key(ctx: click.Context, key: str, context: dict[str, str], size: int, save_plain: str | None, raw: bool) -> None:
    """Make a data key; it is printed wrapped."""
    session = ctx.ensure_object(Session)
    if save_plain and os.path.lexists(save_plain):
        raise Stop(f"{save_plain}: there is a file already", "name a new one", USAGE)
    with session.client() as client:
        made = client.data_key(key, size, context, plaintext=save_plain is not None)
    if save_plain:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(save_plain, flags, 0o600), "wb") as file:
            file.write(made.plaintext or b"")
    write_result(session, replace(made, plaintext=None), "wrapped", raw=raw)


def _attached(text: str) -> bytes:
    """Return the bytes of a base64 argument, or of the base64 in the file it names after an @."""
    if not text.startswith("@"):
        return decoded(text.encode(), raw=False)
    with open(text[1:], "rb") as file:
        return decoded(file.read(_LARGEST), raw=False)


def _tell_valid(session: Session, answer: Any, sentence: str) -> None:
    if session.json:
        output.write_json({"valid": True, **output.plain(answer)})
    else:
        output.say(sentence)
