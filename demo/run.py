"""Starts the demonstration: `make demo`, or `python demo/run.py --help`. The story itself is told in story.py."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from demo import beginning  # the path above makes this folder importable when it is run as a script


def main() -> int:
    """Read the command line and tell the story; exit code 0 only if every step proved itself."""
    beginning.end_when_told()
    import argparse
    from pathlib import Path

    parser = argparse.ArgumentParser(
        description="Keyclave's main job on synthetic health records, from the ceremony to the proof."
    )
    parser.add_argument(
        "--patients", type=beginning.count, default=20, metavar="N", help="how many FHIR patients; above 20, variations [20]"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep server, ciphertexts and log in this new folder, to play on"
    )
    parser.add_argument("--port", type=beginning.port, default=0, help="port of the server [a free one]")
    chosen = parser.parse_args()
    from demo.story import tell

    return beginning.told(lambda: tell(chosen.patients, chosen.keep, chosen.port))


if __name__ == "__main__":
    sys.exit(main())
