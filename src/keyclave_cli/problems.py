"""What went wrong, told to a person (or, with --json, to a program), and the exit code that goes with it.

    0  it is done
    1  it was refused or failed
    2  the command line itself is wrong
    3  no server that answers: unreachable, unavailable or sealed

Every message ends with what to do next. Imports of the client are late: help and usage errors must not pay for them.
"""

from __future__ import annotations

import json
import os
import sys

OK = 0
FAILED = 1
USAGE = 2
NO_SERVER = 3
INTERRUPTED = 130
BROKEN_PIPE = 141

_NEXT: dict[str, str] = {
    "unauthenticated": "is the credential expired or revoked? ask an operator for a new one",
    "sealed": "custodians open it with `keyclave unseal`",
    "unreachable": "check it with `keyclave doctor`",
    "undecipherable": "check the key, and that every --context is the one it was encrypted with",
}
"""What to do next in the words of this command line, where the server or the library say it in their own or not at all."""


class Stop(Exception):
    """The command cannot go on: what happened, what to do next, and the exit code."""

    def __init__(self, detail: str, hint: str, exit_code: int = FAILED) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.exit_code = exit_code


class Problem(Exception):
    """An error in the form in which it is shown."""

    def __init__(self, code: str, detail: str, hint: str, exit_code: int, event: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.hint = hint
        self.exit_code = exit_code
        self.event = event


def describe(error: Exception) -> Problem | None:
    """Return how `error` is shown, or None if it is not one of those that are expected to happen."""
    if isinstance(error, Stop):
        return Problem("usage" if error.exit_code == USAGE else "stopped", error.detail, error.hint, error.exit_code)
    if "keyclave_client.errors" in sys.modules:
        from keyclave_client.errors import KeyclaveError, Sealed, Unavailable

        if isinstance(error, KeyclaveError):
            absent = isinstance(error, Sealed | Unavailable)
            hint = _NEXT.get(error.code) or error.hint
            return Problem(error.code, error.detail, hint, NO_SERVER if absent else FAILED, error.event)
    if isinstance(error, OSError):
        return _of_the_system(error)
    return None


def _of_the_system(error: OSError) -> Problem:
    name = error.filename
    where = "" if name is None else f"{os.fsdecode(name)}: "
    said = error.strerror or str(error) or type(error).__name__
    if isinstance(error, FileExistsError):
        return Problem("exists", f"{where}there is a file already", "give another place, or --force to replace it", FAILED)
    if isinstance(error, FileNotFoundError):
        return Problem("not_found", f"{where}no such file or directory", "check the spelling and where you are", FAILED)
    if isinstance(error, PermissionError):
        return Problem("permission", f"{where}permission denied", "check who owns it with `ls -l`", FAILED)
    return Problem("system", f"{where}{said}", "correct that and run the command again", FAILED)


def complain(error: Exception, *, as_json: bool) -> int:
    """Show `error` and return the exit code that goes with it; one that is not expected to happen is raised again."""
    problem = describe(error)
    if problem is None:
        raise error
    show(problem, as_json=as_json)
    return problem.exit_code


def show(problem: Problem, *, as_json: bool) -> None:
    """Write a problem to stderr."""
    from keyclave_cli.output import printable

    if as_json:
        said = {"code": problem.code, "detail": problem.detail, "hint": problem.hint, "event": problem.event}
        sys.stderr.write(json.dumps({"error": {name: value for name, value in said.items() if value is not None}}) + "\n")
        return
    lines = [f"keyclave: {problem.detail}"]
    if problem.hint:
        lines.append(f"  next: {problem.hint}")
    if problem.event:
        lines.append(f"  event: {problem.event}")
    sys.stderr.write("\n".join(map(printable, lines)) + "\n")
