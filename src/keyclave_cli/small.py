"""Small data that goes to the server: how it is read, what it looks like on the way, and how results are written."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import click

from keyclave_cli import output
from keyclave_cli.parameters import Decorator
from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.session import Session

_LARGEST = 128 * 1024  # characters: 64 KiB in base64, with its envelope

KEY: Decorator = click.argument("key", metavar="KEY")
FILE: Decorator = click.argument(
    "file", metavar="[FILE]", default="-", type=click.Path(exists=True, dir_okay=False, allow_dash=True)
)
RAW: Decorator = click.option("--raw", is_flag=True, help="Bytes instead of base64.")
ALGORITHM: Decorator = click.option("--algorithm", help="Else the key's usual one.")
DIGESTED: Decorator = click.option("--digested", is_flag=True, help="The input is the message's digest already.")
VERSION: Decorator = click.option("--version", type=click.IntRange(min=1), metavar="N", help="Else the primary one.")


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


def attached(text: str) -> bytes:
    """Return the bytes of a base64 argument, or of the base64 in the file it names after an @."""
    if not text.startswith("@"):
        return decoded(text.encode(), raw=False)
    with open(text[1:], "rb") as file:
        return decoded(file.read(_LARGEST), raw=False)
