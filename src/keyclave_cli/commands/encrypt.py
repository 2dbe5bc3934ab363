"""`keyclave encrypt`: files and folders, encrypted on this machine; only data keys are asked of the server."""

from __future__ import annotations

import os

import click

from keyclave_cli.parameters import RemoteCommand, context_option
from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.session import Session


@click.command(cls=RemoteCommand)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True, allow_dash=True))
@click.option("--key", "-k", required=True, help="Name or id of the key that protects the data.")
@context_option()
@click.option(
    "--out", type=click.Path(file_okay=False), help="Folder for the results, mirroring each tree; else beside each file."
)
@click.option("--force", is_flag=True, help="Replace results that are there already.")
@click.option("--remove-source", is_flag=True, help="Remove each file once its result was decrypted and compared.")
@click.option("--jobs", "-j", type=click.IntRange(1, 64), default=4, show_default=True, help="Files at a time.")
@click.pass_context
def encrypt(
    ctx: click.Context, paths: tuple[str, ...], key: str, context: dict[str, str], out: str | None, force: bool,
    remove_source: bool, jobs: int,
) -> None:  # fmt: skip
    """Encrypt files and folders on this machine.

    NAME becomes NAME.kc. The data does not travel: the server is asked for a data key for each file, wrapped by --key
    and bound to the --context, which must be given again to decrypt. Results appear whole or not at all. A result that
    is there already is opened and compared, and left if it is that of the file: an interrupted run is repeated to go
    on. `-` reads stdin and writes stdout.

    \b
    keyclave encrypt records --key patient-records -c purpose=treatment --out sealed
    tar c records | keyclave encrypt - --key backups > records.tar.kc
    """
    session = ctx.ensure_object(Session)
    if "-" in paths:
        if paths != ("-",) or out is not None or remove_source:
            raise Stop("`-` stands alone", "it reads stdin and writes stdout: no other path, --out or --remove-source", USAGE)
        _stream(session, key, context)
        return
    from keyclave_cli.files.finished import is_object
    from keyclave_cli.files.plan import SUFFIX, plan
    from keyclave_cli.files.report import GONE, carry_out
    from keyclave_cli.files.workers import Encryption

    def naming(path: str, explicit: bool) -> str | None:
        if not is_object(path):
            return os.path.basename(path) + SUFFIX
        if explicit:
            raise Stop(f"{path} is encrypted already", "to change its key or context use `keyclave rewrap`", USAGE)
        return None

    todo = plan(paths, out, naming)
    hopeless = GONE | {"refused", "unknown", "wrong_state", "limit_reached"}  # one key, one context: the next file meets them too
    with session.client() as client:
        work = Encryption(client, key, context, len(todo.items), force=force, remove=remove_source)
        try:
            done = carry_out(work, todo, ("encrypting", "encrypted"), jobs=jobs, as_json=session.json, hopeless=hopeless)
        finally:
            work.folders.drop_empty()
    ctx.exit(done)


def _stream(session: Session, key: str, context: dict[str, str]) -> None:
    from keyclave_cli.files.pipes import binary_stdin, binary_stdout

    sink = binary_stdout("ciphertext")
    with session.client() as client:
        client.encryptor(key).encrypt_stream(binary_stdin(), sink, context)
    sink.flush()
