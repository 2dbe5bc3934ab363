"""`make drill`: every drill, a table, and drill/results.json. Ends with 1 when any of them is not well."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "src")]

from drill.clock import clock_drill
from drill.disk import can_mount, disk_drill, file_limit_drill
from drill.idle import idle_drill
from drill.kill import kill_drill
from drill.result import Result, table, write

RESULTS = Path(__file__).resolve().parent / "results.json"


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description="Hurt the server on purpose and count what it loses.")
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="how often to kill it (200)")
    parser.add_argument("--fillings", type=int, default=5, metavar="N", help="how often to fill its disk (5)")
    parser.add_argument("--seed", type=int, help="make the random moments the same as in another run")
    parser.add_argument("--only", action="append", help="only this drill; may be given several times")
    chosen = parser.parse_args()
    drills: dict[str, Callable[[], Result]] = {
        "kill": lambda: kill_drill(chosen.kills, seed=chosen.seed, say=True),
        "disk_full": lambda: disk_drill(chosen.fillings),
        "file_limit": lambda: file_limit_drill(chosen.fillings),
        "clock": clock_drill,
        "idle_connections": idle_drill,
    }
    if not can_mount():
        del drills["disk_full"]
        print("disk_full is left out: it needs the right to mount. file_limit shows the same in another way.")
    unknown = set(chosen.only or ()) - set(drills)
    if unknown:
        parser.error(f"no such drill: {', '.join(sorted(unknown))}; there are {', '.join(drills)}")
    results = []
    for name, drill in drills.items():
        if not chosen.only or name in chosen.only:
            print(f"{name} …", flush=True)
            results.append(drill())
    write(RESULTS, results)
    print("\n" + table(results))
    return 0 if all(r.ok for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
