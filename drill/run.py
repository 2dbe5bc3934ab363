"""`make drill`: every drill, a table, and drill/results.json. Ends with 1 when any of them is not well."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drill.result import Result

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"


def main() -> int:
    """Run what was asked for."""
    sys.path[:0] = [str(HERE.parent), str(HERE.parent / "src")]  # started as a file, this is not yet where imports are looked for
    from drill.disk import can_mount
    from drill.result import table, write

    parser = argparse.ArgumentParser(description="Hurt the server on purpose and count what it loses.")
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="how often to kill it (200)")
    parser.add_argument("--fillings", type=int, default=5, metavar="N", help="how often to fill its disk (5)")
    parser.add_argument("--connections", type=int, default=10_000, metavar="N", help="how many to hold idle (10,000)")
    parser.add_argument("--seed", type=int, help="make the random moments the same as in another run")
    parser.add_argument("--only", action="append", help="only this drill; may be given several times")
    chosen = parser.parse_args()
    drills = _drills(chosen)
    unknown = set(chosen.only or ()) - set(drills)
    if unknown:
        parser.error(f"no such drill: {', '.join(sorted(unknown))}; there are {', '.join(drills)}")
    if not can_mount():
        del drills["disk_full"]
        print("disk_full is left out: it needs the right to mount. file_limit shows the same in another way.")
    results = []
    for name, drill in drills.items():
        if not chosen.only or name in chosen.only:
            print(f"{name} …", flush=True)
            results.append(_held(name, drill))
    write(RESULTS, results)
    print("\n" + table(results))
    return 0 if all(r.ok for r in results) else 1


def _drills(chosen: argparse.Namespace) -> dict[str, Callable[[], Result]]:
    from drill.clock import clock_drill
    from drill.disk import disk_drill, file_limit_drill
    from drill.idle import idle_drill
    from drill.kill import kill_drill

    return {
        "kill": lambda: kill_drill(chosen.kills, seed=chosen.seed, say=True),
        "disk_full": lambda: disk_drill(chosen.fillings),
        "file_limit": lambda: file_limit_drill(chosen.fillings),
        "clock": clock_drill,
        "idle_connections": lambda: idle_drill(chosen.connections),
    }


def _held(name: str, drill: Callable[[], Result]) -> Result:
    """Hold a drill; one that breaks off is a result too, and the others are still held."""
    from drill.result import Result

    try:
        return drill()
    except Exception as fault:  # the server did not come up, or answered what no answer should be
        return Result(name, lost=1, notes=[f"broken off: {fault!r}"])


if __name__ == "__main__":
    sys.exit(main())
