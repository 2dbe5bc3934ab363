"""`python -m keyclave_cli`: the same as the `keyclave` command."""

import sys

from keyclave_cli.main import run

if __name__ == "__main__":
    sys.exit(run())
