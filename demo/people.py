"""Starts the demonstration of people: `make demo-people`. The story itself is told in people_story.py."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from demo.people_story import tell  # the path above makes this folder importable when it is run as a script


def main() -> int:
    """Read the command line and tell the story; exit code 0 only if every step proved itself."""
    parser = argparse.ArgumentParser(description="Invite, enrol, elevate, destroy by two, verify offline: nobody alone.")
    parser.add_argument("--port", type=int, default=0, help="port of the server [a free one]")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the server ends with us, and what was temporary goes
    return tell(chosen.port)


if __name__ == "__main__":
    sys.exit(main())
