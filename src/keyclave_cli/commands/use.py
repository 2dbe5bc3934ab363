"""`keyclave use`: keys used where they are, on data of up to 64 KiB from stdin or a file."""

from __future__ import annotations

from dataclasses import dataclass, replace

import click

from keyclave_cli import output
from keyclave_cli.commands.use_proofs import PROOFS
from keyclave_cli.new_files import new_file
from keyclave_cli.parameters import Family, as_map, context_option
from keyclave_cli.session import Session
from keyclave_cli.small import FILE, KEY, RAW, decoded, read_input, write_result


@click.group(cls=Family)
def use() -> None:
    """Use a key on small data: encrypt, sign, MAC.

    The data travels to the server and is at most 64 KiB (files of any size: `keyclave encrypt`). Input is FILE, or
    stdin. Ciphertexts, signatures and MACs are base64 unless --raw.
    """


for _command in PROOFS:
    use.add_command(_command)


@use.command()
@KEY
@FILE
@context_option()
@RAW
@click.pass_context
def encrypt(ctx: click.Context, key: str, file: str, context: dict[str, str], raw: bool) -> None:
    """Encrypt small data on the server."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        write_result(session, client.encrypt(key, read_input(file), context), "ciphertext", raw=raw)


@use.command()
@KEY
@FILE
@context_option("Encryption context, as it was given to encrypt. Repeatable.")
@RAW
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
@KEY
@FILE
@context_option("Encryption context it has now. Repeatable.")
@click.option("--to-key", metavar="TO", help="Another key to move it to.")
@click.option(
    "--to-context",
    multiple=True,
    callback=as_map,
    metavar="NAME=VALUE",
    help="Another context to bind it to, the whole of it. Repeatable.",
)
@RAW
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
@click.argument("count", metavar="BYTES", type=click.IntRange(1, 1024))
@click.option("--hex", "in_hex", is_flag=True, help="Hexadecimal instead of base64.")
@RAW
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
@KEY
@context_option()
@click.option("--bytes", "size", type=click.IntRange(16, 1024), default=32, show_default=True, help="Its length.")
@click.option(
    "--save-plain",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Also write the plain key, raw, to this new file (0600). It is never printed.",
)
@RAW
@click.pass_context
def data_key(ctx: click.Context, key: str, context: dict[str, str], size: int, save_plain: str | None, raw: bool) -> None:
    """Make a data key; it is printed wrapped."""
    session = ctx.ensure_object(Session)
    with session.client() as client, new_file(save_plain, "name a new one") as file:
        made = client.data_key(key, size, context, plaintext=file is not None)
        if file is not None:
            file.write(made.plaintext or b"")
    write_result(session, replace(made, plaintext=None), "wrapped", raw=raw)
