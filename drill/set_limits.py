"""The server's own programs with less patience: `python drill/set_limits.py REQUEST_SECONDS IDLE_SECONDS serve --home …`.

For tests that would otherwise wait for minutes to see the server lose its patience with a slow or idle connection.
"""

from __future__ import annotations

import sys

from keyclave.app.__main__ import main
from keyclave.protocols.rest import answering

if __name__ == "__main__":
    answering.REQUEST_SECONDS, answering.IDLE_SECONDS = int(sys.argv[1]), int(sys.argv[2])
    sys.exit(main(sys.argv[3:]))
