"""`keyclave decrypt`: the way back."""

from __future__ import annotations

import os

import click

from keyclave_cli.parameters import RemoteCommand, context_option
from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.session import Session


@click.command(cls=RemoteCommand)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True, allow_dash=True))
@click.option("--key", "-k", help="Open only what this key protects. Else each file's own key, as the file names it.")
@context_option("Encryption context, as it was given to encrypt. Repeatable.")
@click.option(
    "--out", type=click.Path(file_okay=False), help="Folder for the results, mirroring each tree; else beside each file."
)
@click.option("--force", is_flag=True, help="Replace results that are there already.")
@click.option("--jobs", "-j", type=click.IntRange(1, 64), default=4, show_default=True, help="Files at a time.")
@click.pass_context
def decrypt(
    ctx: click.Context, paths: tuple[str, ...], key: str | None, context: dict[str, str], out: str | None, force: bool, jobs: int
) -> None:
    """Decrypt files and folders on this machine.

    NAME.kc becomes NAME; in folders only files called .kc are looked at. A file that does not open leaves nothing
    behind. Give --key when it matters which key the data was protected by: without it, whoever can exchange the files
    can exchange them for others of the tenant's. `-` reads stdin and writes stdout, and needs --key.

    \b
    keyclave decrypt sealed -c purpose=treatment --out opened
    """
    session = ctx.ensure_object(Session)
    if "-" in paths:
        if paths != ("-",) or out is not None:
            raise Stop("`-` stands alone", "it reads stdin and writes stdout: no other path, no --out", USAGE)
        if key is None:
            raise Stop("`-` needs --key", "say which key protects what comes in", USAGE)
        _stream(session, key, context)
        return
    from keyclave_cli.files.plan import SUFFIX, plan
    from keyclave_cli.files.report import carry_out
    from keyclave_cli.files.workers import Decryption

    def naming(path: str, explicit: bool) -> str | None:
        name = os.path.basename(path)
        if name.endswith(SUFFIX) and name != SUFFIX:
            return name.removesuffix(SUFFIX)
        if explicit and out is None:
            raise Stop(f"{path} is not called {SUFFIX}, so its result has no name", "say where with --out", USAGE)
        return name if explicit else None

    todo = plan(paths, out, naming)
    with session.client() as client:
        work = Decryption(client, key, context, force=force)
        try:
            done = carry_out(work, todo, ("decrypting", "decrypted"), jobs=jobs, as_json=session.json)
        finally:
            work.folders.drop_empty()
    ctx.exit(done)


def _stream(session: Session, key: str, context: dict[str, str]) -> None:
    from keyclave_cli.files.pipes import PlaintextOut, ciphertext_stdin
    from keyclave_client.errors import Undecipherable

    sink = PlaintextOut()
    with session.client() as client:
        try:
            client.encryptor(key).decrypt_stream(ciphertext_stdin(), sink, context)
        except Undecipherable as error:
            hint = "throw away what came out so far: it is genuine, but not the whole; then check key, context and source"
            raise Stop(error.detail, hint) from None
    sink.close()
