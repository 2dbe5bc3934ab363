"""The server's own programs (`keyclave init`, `serve`, `migrate`, `migrate-store`): handed over whole, replacing this process."""

from __future__ import annotations

import os
import sys

import click

from keyclave_cli.session import Session

SERVER_PROGRAMS = "keyclave.app"
_PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def interpreter() -> list[str]:
    """Return how a program of the server's is started: by this Python, and never from a package in the current folder (-P)."""
    return [sys.executable, "-P", "-m", SERVER_PROGRAMS]


def _become(program: str, arguments: list[str], home: str | None) -> None:
    given = list(arguments)
    if home is not None and not any(argument == "--home" or argument.startswith("--home=") for argument in given):
        given[:0] = ["--home", home]
    sys.stdout.flush()
    command = [*interpreter(), program, *given]
    # they ask the dynamic linker for this: given now, they need not begin twice
    os.execve(command[0], command, {**os.environ, "LD_BIND_NOW": "1"})  # noqa: S606 - our own interpreter, no shell


@click.command(context_settings=_PASSED_ON, options_metavar="")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[OPTION]...")
@click.pass_context
def init(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Hold the ceremony that makes a server's home.

    It makes the root key, shares it among custodians so that any M of N can open the server, tries the shares before
    they are accepted, and hands out the first credentials, also as profiles in the home. `keyclave init --help` lists its
    options, among them --home, --threshold, --custodians, --share-holder, --protect-to, --passphrases and --development.

    \b
    keyclave init --home /srv/keyclave --threshold 2 --custodians 3 --passphrases
    keyclave --home /srv/keyclave --profile custodian key list
    """
    _become("init", list(arguments), ctx.ensure_object(Session).local_home())


@click.command(context_settings=_PASSED_ON, options_metavar="")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[OPTION]...")
@click.pass_context
def serve(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Run the server.

    It starts sealed and waits for `keyclave unseal`. `keyclave serve --help` lists its options, among them --home,
    --host, --port and --workers.
    """
    _become("serve", list(arguments), ctx.ensure_object(Session).local_home())


@click.command(context_settings=_PASSED_ON, options_metavar="")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[OPTION]...")
@click.pass_context
def migrate(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Bring the server's database to the newest schema.

    A home's own file is brought up to date while no server uses it. A PostgreSQL database is named with --store and the
    account of its owner: the servers' own user may not change the schema. Run it before the nodes are replaced by newer ones.

    \b
    keyclave migrate --home /srv/keyclave
    keyclave migrate --store 'postgresql://keyclave_owner@db/keyclave' --password-file owner.password
    """
    _become("migrate", list(arguments), ctx.ensure_object(Session).local_home())


@click.command("migrate-store", context_settings=_PASSED_ON, options_metavar="")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[OPTION]...")
@click.pass_context
def migrate_store(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Move the server's whole store to a database, or back into a file.

    Every server of the store has to be stopped. All rows are copied and compared, the record is hashed anew and held
    against its last checkpoint, and every key version is opened under the root, for which the custodians' shares are asked
    (or read with --shares FILE). Only then the old store is marked as moved, and refuses to serve. A move that is cut short
    leaves the old store in use; the same command goes on where it can.

    \b
    keyclave migrate-store --home /srv/keyclave --to 'postgresql://keyclave_app@db/keyclave' --password-file app.password
    keyclave migrate-store --home /srv/keyclave --to keyclave-2.db
    """
    _become("migrate-store", list(arguments), ctx.ensure_object(Session).local_home())
