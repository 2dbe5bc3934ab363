"""The root of the command tree, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from keyclave_cli.lazy import LazyGroup
from keyclave_cli.parameters import connection_options, json_option
from keyclave_cli.problems import BROKEN_PIPE, INTERRUPTED, USAGE, Problem, complain, show
from keyclave_cli.session import Session

_EPILOG = """\
Exit codes: 0 done, 1 refused or failed, 2 wrong command line, 3 no server (unreachable or sealed).
A credential is read from a file or a profile, never from the command line; KEYCLAVE_TOKEN works too, but others may see it.
"""


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("keyclave")
    except PackageNotFoundError:
        number = "(not installed as a package)"
    click.echo(f"keyclave {number}")
    ctx.exit()


class _ReaderGone(Exception):
    """Nobody reads the output any more."""


@contextmanager
def _read() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise _ReaderGone from None


class _Program(LazyGroup):
    """The commands. A reader that goes away is told to `run`; left to click it would be an error without a word."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the command line; help is written here."""
        with _read():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _read():
            return super().invoke(ctx)


@click.group(cls=_Program, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit.")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Keys that protect health records, and a record of them that nobody can forge."""
    ctx.ensure_object(Session)


cli.params.extend([*connection_options(hidden=False), json_option()])


def _misuse(error: click.ClickException) -> Problem:
    """Return a wrong command line as a program is told of it."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    detail = "no command is named" if isinstance(error, click.exceptions.NoArgsIsHelpError) else error.format_message()
    code = "usage" if error.exit_code == USAGE else "stopped"
    return Problem(code, detail, f"see `{ctx.command_path if ctx else 'keyclave'} --help`", error.exit_code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; nothing is raised but what is a mistake in this program."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = cli.main(args=given, prog_name="keyclave", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        if "--json" in given:
            show(_misuse(error), as_json=True)
        else:
            error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("\nstopped\n")
        return INTERRUPTED
    except (BrokenPipeError, _ReaderGone):
        # the reader has gone, which is no error of ours; Python would complain once more when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        return complain(error, as_json="--json" in given)
