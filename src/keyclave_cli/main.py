"""The command `keyclave` as a program: its streams, and Ctrl-C from the first moment on.

It imports next to nothing of its own accord: who presses Ctrl-C while the rest is imported is answered as at any later time.
"""

from __future__ import annotations

import sys

_INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        code = _run()
    except KeyboardInterrupt:
        if sys.stderr is not None:
            sys.stderr.write("\nstopped\n")
        code = _INTERRUPTED
    sys.exit(code)


def _run() -> int:
    from keyclave_cli.problems import Stop, complain
    from keyclave_cli.streams import prepare

    try:
        prepare()
    except Stop as stop:
        return complain(stop, as_json="--json" in sys.argv)
    from keyclave_cli.program import run

    return run()
