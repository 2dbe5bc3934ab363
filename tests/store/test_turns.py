"""Processes on one file: the turn to write goes on at once, also from a holder that dies."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from keyclave.store.embedded.turns import Turns

pytestmark = pytest.mark.file_store("the lock by which processes take turns at one file")

HOLDER = """
import sys, time
from pathlib import Path
from keyclave.store.embedded.turns import Turns
Turns(Path(sys.argv[1])).take()
print("taken", flush=True)
time.sleep(60)
"""


@pytest.mark.requirement("R32")
def test_the_turn_of_a_process_that_is_killed_goes_to_whoever_waits(tmp_path: Path) -> None:
    turns = Turns(tmp_path / "db")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "db")], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"taken\n"
    waiting = threading.Thread(target=turns.take)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    holder.kill()
    waiting.join(10)
    assert not waiting.is_alive()
    holder.wait()
    turns.give()
    turns.give()  # without having it
    turns.close()


def test_a_turn_that_is_given_is_taken_at_once(tmp_path: Path) -> None:
    one, other = Turns(tmp_path / "db"), Turns(tmp_path / "db")
    waits = []
    for _ in range(20):
        one.take()
        asked = threading.Event()

        def take(asked: threading.Event = asked) -> None:
            asked.set()
            other.take()

        thread = threading.Thread(target=take)
        thread.start()
        asked.wait()
        given = time.monotonic()
        one.give()
        thread.join(10)
        waits.append(time.monotonic() - given)
        other.give()
    assert sorted(waits)[10] < 0.05
