"""Starts the demonstration of people: `make demo-people`. The story itself is told in people_story.py."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from demo import beginning  # the path above makes this folder importable when it is run as a script


def main() -> int:
    """Read the command line and tell the story; exit code 0 only if every step proved itself."""
    beginning.end_when_told()
    import argparse

    parser = argparse.ArgumentParser(description="Invite, enrol, elevate, destroy by two, verify offline: nobody alone.")
    parser.add_argument("--port", type=beginning.port, default=0, help="port of the server [a free one]")
    chosen = parser.parse_args()
    from demo.people_story import tell

    return beginning.told(lambda: tell(chosen.port))


if __name__ == "__main__":
    sys.exit(main())
