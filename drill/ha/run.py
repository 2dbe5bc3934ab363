"""`make drill-ha`: the cluster and the servers come up, every drill is held, and drill/ha.json says what was seen."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drill.ha.ground import Ground

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "ha.json"
# The columns of the table; the rest of a row is in the file.
HEAD = ("drill", "acknowledged", "lost", "uses_after_revoke", "duplicates", "seconds_to_serve", "seconds_to_recover", "ok")


def main() -> int:
    """Run what was asked for."""
    sys.path[:0] = [
        str(HERE.parents[1]),
        str(HERE.parents[1] / "src"),
    ]  # started as a file, this is not yet where imports are looked for
    from drill.ha.ground import Ground

    parser = argparse.ArgumentParser(description="Hurt a cluster on purpose and count what it loses.")
    parser.add_argument("--ground", action="store_true", help="only the database, with a plain writer")
    parser.add_argument("--nodes", action="store_true", help="only the servers")
    parser.add_argument("--only", action="append", default=[], help="only this drill; may be given several times")
    parser.add_argument("--keep", action="store_true", help="leave the folder of the run, with all logs, behind")
    chosen = parser.parse_args()
    began = time.monotonic()
    rows: list[dict[str, object]] = []
    with Ground(keep=chosen.keep) as ground:
        print(f"three etcd, three Patroni and three PostgreSQL are up after {time.monotonic() - began:.1f} s", flush=True)
        if ground.disk is None:
            print("no disk is filled: that needs the right to mount a file as a disk", flush=True)
        if not chosen.nodes:
            _ground_drills(ground, chosen.only, rows)
        if not chosen.ground:
            _node_drills(ground, chosen.only, rows)
    partial = RESULTS.with_suffix(".part")
    partial.write_text(json.dumps(rows, indent=2) + "\n")
    partial.replace(RESULTS)
    print("\n" + _table(rows))
    return 0 if rows and all(row["ok"] for row in rows) else 1


def _ground_drills(ground: Ground, only: list[str], rows: list[dict[str, object]]) -> None:
    from drill.ha.prove import prove_ground

    for row in prove_ground(ground, only):
        rows.append(row)
        print(json.dumps(row), flush=True)


def _node_drills(ground: Ground, only: list[str], rows: list[dict[str, object]]) -> None:
    from drill.ha.drills import DRILLS, Range, held, record
    from drill.ha.fleet import Fleet

    wanted = [name for name in DRILLS if not only or name in only]
    if ground.disk is None and "disk_full" in wanted:
        wanted.remove("disk_full")
    if not wanted:
        return
    with Fleet(ground) as fleet:
        where = Range(ground, fleet)
        for name in wanted:
            row = held(where, name)
            rows.append(record(row))
            print(json.dumps(record(row)), flush=True)
            for note in row.notes[:20]:
                print(f"  {name}: {note}", flush=True)


def _table(rows: list[dict[str, object]]) -> str:
    cells = [HEAD, *(tuple("" if row.get(name) is None else str(row[name]) for name in HEAD) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEAD))]
    lines = ["  ".join(f"{cell:<{w}}" if i == 0 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
             for row in cells]  # fmt: skip
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


if __name__ == "__main__":
    sys.exit(main())
