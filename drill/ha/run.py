"""`make drill-ha`: the cluster and the servers come up, every drill is held, and drill/ha.json says what was seen."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "ha.json"


def main() -> int:
    """Run what was asked for."""
    sys.path[:0] = [
        str(HERE.parents[1]),
        str(HERE.parents[1] / "src"),
    ]  # started as a file, this is not yet where imports are looked for
    from drill.ha.ground import Ground
    from drill.ha.prove import prove_ground

    parser = argparse.ArgumentParser(description="Hurt a cluster on purpose and count what it loses.")
    parser.add_argument("--ground", action="store_true", help="only the database, with a plain writer")
    parser.add_argument("--only", action="append", help="only this drill; may be given several times")
    parser.add_argument("--keep", action="store_true", help="leave the folder of the run, with all logs, behind")
    chosen = parser.parse_args()
    began = time.monotonic()
    with Ground(keep=chosen.keep) as ground:
        print(f"ground up after {time.monotonic() - began:.1f} s in {ground.folder}", flush=True)
        rows = []
        for row in prove_ground(ground, chosen.only):
            rows.append(row)
            print(json.dumps(row), flush=True)
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
