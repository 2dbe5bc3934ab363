"""`python -m keyclave.app`: the server's own programs. People call them through `keyclave`, which hands over to here."""

from __future__ import annotations

import argparse
import gc
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from keyclave.core.errors import KeyclaveError

if TYPE_CHECKING:
    from keyclave.app.config import StoreSection


def main(arguments: list[str] | None = None) -> int:
    """Run a program and return its exit code."""
    parser = argparse.ArgumentParser(prog="keyclave", description="Keyclave's server programs.")
    programs = parser.add_subparsers(dest="program", required=True)
    init = programs.add_parser("init", help="hold the ceremony that makes a home")
    init.add_argument("--home", type=Path, default=Path("keyclave-home"))
    init.add_argument("--threshold", type=int, default=2, metavar="M", help="shares needed to unseal")
    init.add_argument("--custodians", type=int, default=3, metavar="N", help="shares made")
    init.add_argument(
        "--protect-to", type=Path, action="append", default=[], metavar="PEM", help="a custodian's P-384 public key, once each"
    )
    init.add_argument(
        "--share-holder", action="append", default=[], metavar="NAME", help="who holds the next share, once for each"
    )
    init.add_argument("--passphrases", action="store_true", help="ask for a passphrase for each share")
    init.add_argument("--out-json", type=Path, help="write shares and credentials to this file (0600) instead of showing them")
    init.add_argument(
        "--development", action="store_true", help="a development root that opens by itself; never for patient data"
    )
    init.add_argument("--host", default="127.0.0.1")
    init.add_argument("--port", type=_number(1, 65_535), default=8443)
    init.add_argument("--data-port", type=_number(1, 65_535), metavar="N", help="serve the use of keys on a listener of its own")
    init.add_argument("--origin", default="keyclave.localhost/log", help="the log's name, for ever")
    init.add_argument("--name", action="append", default=[], help="a further DNS name or address of the server's certificate")
    init.add_argument(
        "--people",
        choices=("passkeys", "tokens"),
        help="how people prove themselves: passkeys (the default), or bearer tokens (the default of a development home)",
    )
    _name_store(init, "keep everything in this database, which other nodes may share, instead of in the home")
    migrate = programs.add_parser("migrate", help="bring the database to the newest schema")
    migrate.add_argument("--home", type=Path, default=Path("keyclave-home"))
    _name_store(migrate, "the database, with its owner's account")
    moved = programs.add_parser("migrate-store", help="move the home's store to a database, or back into a file")
    moved.add_argument("--home", type=Path, default=Path("keyclave-home"))
    moved.add_argument("--to", required=True, metavar="URL|FILE", help="the database's address, or a new file")
    moved.add_argument("--password-file", type=Path, metavar="FILE", help="the password of the database's user, on one line")
    moved.add_argument("--shares", type=Path, metavar="FILE", help="shares, one on each line; without it they are asked for")
    serve = programs.add_parser("serve", help="serve")
    serve.add_argument("--home", type=Path, default=Path("keyclave-home"))
    serve.add_argument("--host")
    serve.add_argument("--port", type=_number(0, 65_535))
    serve.add_argument("--workers", type=_number(1, 64), metavar="N", help="processes that serve, to use as many cores [1]")
    serve.add_argument("--part", help=argparse.SUPPRESS)  # what the supervisor gives a worker
    share = programs.add_parser("open-share", help="open a protected share file and print the share")
    share.add_argument("file", type=Path)
    share.add_argument("--key", type=Path, help="the custodian's private key (PEM); otherwise a passphrase is asked for")
    chosen = parser.parse_args(arguments)
    if arguments is None:
        _bind_now()
    os.umask(0o077)
    try:
        return _run(chosen)
    except KeyclaveError as error:
        sys.stderr.write(f"keyclave: {error.detail}\n" + (f"  → {error.hint}\n" if error.hint else ""))
        return 1


def _bind_now() -> None:
    """Begin again with every library call bound at the start (ld.so(8), LD_BIND_NOW), unless that is so already.

    Otherwise the first call of a function goes through the dynamic linker, which saves the vector registers on the stack and
    leaves them there; a key that was copied a moment ago may be in them.
    """
    if not os.environ.get("LD_BIND_NOW"):
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(command[0], command, {**os.environ, "LD_BIND_NOW": "1"})  # noqa: S606 - this program itself, no shell


def _number(least: int, most: int) -> Callable[[str], int]:
    """Return what reads a whole number in this range, as [listen] has it in the configuration."""

    def read(text: str) -> int:
        if not re.fullmatch("[0-9]{1,5}", text, re.ASCII) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return read


def _name_store(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--store", metavar="URL", default="", help=what)
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="the password of the database's user, on one line")


def _store(chosen: argparse.Namespace) -> StoreSection:
    from keyclave.app.config import StoreSection

    file = chosen.password_file
    return StoreSection(url=chosen.store, password_file="" if file is None else str(file.resolve()))


def _migrate(chosen: argparse.Namespace) -> int:
    from keyclave.app.config import FILE, load
    from keyclave.app.stores import migrate

    home = chosen.home.resolve()
    config = load(home) if (home / FILE).exists() else None
    done = migrate(home, config, _store(chosen))
    sys.stdout.write(f"{done} has the newest schema\n")
    return 0


def _move(chosen: argparse.Namespace) -> int:
    from keyclave.app.config import StoreSection, load
    from keyclave.app.move import move, read_shares
    from keyclave.store.pg.address import is_postgres

    home, file = chosen.home.resolve(), chosen.password_file
    if is_postgres(chosen.to):
        to: StoreSection | Path = StoreSection(url=chosen.to, password_file="" if file is None else str(file.resolve()))
    else:
        to = Path(os.path.abspath(home / chosen.to))  # a link is not followed
    move(home, load(home), to, read_shares(chosen.shares), lambda text: sys.stdout.write(text + "\n"))
    return 0


def _run(chosen: argparse.Namespace) -> int:
    if chosen.program == "serve":
        gc.disable()  # nothing made while starting is garbage; `serve` freezes it and turns the collector on
        from keyclave.app.serve import serve, serve_part

        if chosen.part is not None:
            serve_part(chosen.home.resolve(), chosen.host, chosen.port, chosen.part)
            return 0
        return serve(chosen.home.resolve(), chosen.host, chosen.port, chosen.workers)
    if chosen.program == "open-share":
        from keyclave.app.hand_over import open_share

        return open_share(chosen.file, chosen.key)
    if chosen.program == "migrate-store":
        return _move(chosen)
    if chosen.program == "migrate":
        return _migrate(chosen)
    from keyclave.app.ceremony import Wishes
    from keyclave.app.hand_over import init

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9./_-]{0,120}", chosen.origin):
        sys.stderr.write("keyclave: the origin is a name like kms.example.org/log\n")
        return 2
    threshold, custodians = (1, 1) if chosen.development else (chosen.threshold, chosen.custodians)
    wishes = Wishes(
        threshold=threshold,
        custodians=custodians,
        development=chosen.development,
        host=chosen.host,
        port=chosen.port,
        origin=chosen.origin,
        names=tuple(chosen.name),
        people=chosen.people or ("tokens" if chosen.development else "passkeys"),
        data_port=chosen.data_port,
        store=_store(chosen),
        holders=tuple(chosen.share_holder),
    )
    return init(chosen.home.resolve(), wishes, chosen.protect_to, chosen.out_json, passphrases=chosen.passphrases)


if __name__ == "__main__":
    sys.exit(main())
