"""Print the lifecycle table into docs/life-of-a-key.md, between its markers, from the one table in the code.

.venv/bin/python scripts/print_life.py          writes the page
.venv/bin/python scripts/print_life.py --check  exits 1 if the page is not what the table says
"""

from __future__ import annotations

import sys
from pathlib import Path

from keyclave.keys.states import PERMITS, State
from keyclave.keys.transitions import MAY, TRANSITIONS, Move

PAGE = Path(__file__).resolve().parent.parent / "docs" / "life-of-a-key.md"
BEGIN, END = "<!-- printed from keys/transitions.py -->", "<!-- end of what is printed -->"


def tables() -> str:
    """Return the states and the moves as two Markdown tables."""
    lines = ["| state | may protect | may process | advice to who is refused |", "|---|---|---|---|"]
    for state in State:
        permission = PERMITS[state]
        protect, process = ("yes" if flag else "no" for flag in (permission.protect, permission.process))
        lines.append(f"| {state.value} | {protect} | {process} | {permission.advice} |")
    lines += ["", "| from | move | to | SP 800-57 | who may | must hold |", "|---|---|---|---|---|---|"]
    for (state, move), row in sorted(
        TRANSITIONS.items(), key=lambda item: (list(State).index(item[0][0]), list(Move).index(item[0][1]))
    ):
        who = " or ".join(MAY[move]) + (" (by rotating)" if move is Move.SUPERSEDE else "")
        lines.append(f"| {state.value} | {move.value} | {row.after.value} | {row.source} | {who} | {row.entry} |")
    return "\n".join(lines)


def main() -> int:
    """Write or check the page."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or END not in rest:
        sys.stderr.write(f"{PAGE}: the markers are missing\n")
        return 1
    wanted = f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"
    if "--check" in sys.argv[1:]:
        if wanted != text:
            sys.stderr.write(f"{PAGE} is not what the table says: run scripts/print_life.py\n")
        return int(wanted != text)
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
