"""The machine's clock is set back an hour, while the server runs and while it is down: events keep their order, and no credential
lives longer for it.

The clock is moved for the server's process alone (`set_clock.py`), by the offset in a file.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from drill.evidence import Auditor, pinned_keys
from drill.result import Result
from tests.live import ENVIRONMENT, Live, launch, wait_until_up

_HOUR = 3600
_TTL = 60  # seconds: the shortest life of a credential
_SCOPE = {"operations": ["encrypt"], "keys": ["*"]}
_SETTLED = 3.0  # seconds: several turns of what the server does by the clock
_SET_CLOCK = Path(__file__).with_name("set_clock.py")


class MovedClock:
    """A live server whose clock is moved."""

    def __init__(self, folder: Path) -> None:
        self._offset = folder / "offset"
        self.live = launch(folder)
        self.restart(0)

    def move(self, seconds: int) -> None:
        """Set the server's clock off by so many seconds."""
        part = self._offset.with_suffix(".part")
        part.write_text(str(seconds))
        part.replace(self._offset)

    def restart(self, seconds: int) -> None:
        """Kill the server and start it under a clock that is off by so many seconds."""
        live = self.live
        if live.process.poll() is None:
            live.kill()
        self.move(seconds)
        with (live.home.parent / "home.server.log").open("ab") as log:
            command = [
                sys.executable,
                str(_SET_CLOCK),
                str(self._offset),
                "serve",
                "--home",
                str(live.home),
                "--port",
                str(live.port),
            ]
            live.process = subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until_up(live.url, live.ca_file, live.process)
        live.unseal()


def clock_drill() -> Result:
    """Set the clock back in every way."""
    result = Result("clock")
    with tempfile.TemporaryDirectory(prefix="keyclave-drill-") as folder:
        moved = MovedClock(Path(folder))
        live = moved.live
        try:
            live.create_key("drill")
            auditor = Auditor(live, Path(folder) / "export", pinned_keys(live))
            for act in (_while_running, _while_down, _while_idle):
                act(moved, result)
                result.runs += 1
            _in_order(live, result)
            live.get("/v1/audit/receipts/" + live.get("/v1/whoami", "auditor").json()["event"], "auditor")
            auditor.export()
            auditor.verify(result)
        finally:
            live.stop()
    result.ok = result.lost == 0 and result.runs == 3
    return result


def _issue(live: Live, result: Result) -> dict[str, Any]:
    body = {"principal": f"clock-{time.monotonic_ns()}", "role": "application", "ttl_seconds": _TTL, "scope": _SCOPE}
    answer = live.post("/v1/credentials", "operator", body)
    if answer.status_code != 201:
        result.lose(f"a credential was not issued: {answer.text[:120]}")
    result.acknowledged += 1
    return dict(answer.json())


def _lives(live: Live, credential: dict[str, Any]) -> bool:
    return live.post("/v1/keys/drill/encrypt", credential["token"], {"plaintext": "cmVjb3Jk"}).status_code == 200


def _while_running(moved: MovedClock, result: Result) -> None:
    """Three seconds before a credential ends the clock is set back an hour: it ends three seconds later all the same."""
    live = moved.live
    credential = _issue(live, result)
    moved.move(_TTL - 3)
    if not _lives(live, credential):
        result.lose("a credential ended early")
    moved.move(-_HOUR)
    if not _within(10, lambda: not _lives(live, credential)):
        result.lose("a credential went on after its end, because the clock was set back under it")
    fresh = _issue(live, result)
    if fresh["expires_at"] < credential["expires_at"]:
        result.lose("a credential issued later ends before one issued earlier")


def _while_down(moved: MovedClock, result: Result) -> None:
    """A credential that has ended stays ended when the server starts with a clock of an hour ago."""
    live = moved.live
    credential = _issue(live, result)
    moved.move(5 * _TTL)  # beyond what the act before had shown
    if _lives(live, credential):
        result.lose("a credential is alive after its end")
    time.sleep(_SETTLED)
    moved.restart(-_HOUR)
    if _lives(live, credential):
        result.lose("a credential that had ended is alive again after a start with a clock set back")


def _while_idle(moved: MovedClock, result: Result) -> None:
    """The same when nobody asked for anything since: what the server showed nobody must not be shown again either."""
    live = moved.live
    moved.restart(0)
    credential = _issue(live, result)
    time.sleep(_SETTLED)
    moved.move(20 * _TTL)
    time.sleep(_SETTLED)
    moved.restart(-_HOUR)
    if _lives(live, credential):
        result.lose("a credential that had ended while the server was idle is alive again after a start with a clock set back")


def _in_order(live: Live, result: Result) -> None:
    """Events are numbered without gaps and dated in their order."""
    events: list[dict[str, Any]] = []
    start: int | None = 0
    while start is not None:
        page = live.get(f"/v1/audit/events?from={start}&limit=1000", "auditor").json()
        events += page["events"]
        start = page["next"]
    result.acknowledged += len(events)
    for before, after in pairwise(events):
        if after["index"] != before["index"] + 1 or after["at"] < before["at"]:
            result.lose(f"event {after['id']} is dated before {before['id']}")


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)  # between two looks at a condition
    return False
