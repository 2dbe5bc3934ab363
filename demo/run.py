"""Starts the demonstration: `make demo`, or `python demo/run.py --help`. The story itself is told in story.py."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from demo.story import tell  # the path above makes this folder importable when it is run as a script


def main() -> int:
    """Read the command line and tell the story; exit code 0 only if every step proved itself."""
    parser = argparse.ArgumentParser(
        description="Keyclave's main job on synthetic health records, from the ceremony to the proof."
    )
    parser.add_argument(
        "--patients", type=_count, default=20, metavar="N", help="how many FHIR patients; above 20, variations [20]"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep server, ciphertexts and log in this new folder, to play on"
    )
    parser.add_argument("--port", type=int, default=0, help="port of the server [a free one]")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the server ends with us, and what was temporary goes
    return tell(chosen.patients, chosen.keep, chosen.port)


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 10_000:
        raise argparse.ArgumentTypeError("between 1 and 10000")
    return number


if __name__ == "__main__":
    sys.exit(main())
