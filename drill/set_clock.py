"""The server's own programs with another clock: `python drill/set_clock.py FILE serve --home …`.

The machine's wall clock, as this process sees it through `time.time` and `time.time_ns`, is off by the whole seconds that FILE says,
read anew each time. The monotonic clock is left alone, as it is when somebody sets a machine's clock. Nothing else is changed, so
no other program and no right to set clocks is needed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

_true, _true_float = time.time_ns, time.time


def main() -> int:
    """Move the clock and run the server's program."""
    offset = Path(sys.argv[1])
    time.time_ns = lambda: _true() + int(offset.read_text()) * 1_000_000_000
    time.time = lambda: _true_float() + int(offset.read_text())
    from keyclave.app.__main__ import main as program

    return program(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
