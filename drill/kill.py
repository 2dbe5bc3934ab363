"""`kill -9` at random moments under load, again and again on one home: nothing acknowledged may be lost.

After each kill the process is started again and unsealed, by nobody's hand but the custodians'; then everything that was answered
in the run is looked for. Every twentieth kill comes while the server starts. A killed process loses nothing that the kernel has;
that an answer also survives the loss of power rests on the synced commit before it, which the store's tests hold.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from drill.evidence import Auditor, close_open, find_changes, open_all, pinned_keys
from drill.load import KEY, Kept, Load
from drill.result import Result
from tests.live import Live, launch, start, wait_until_up

_LONGEST_RUN = 0.7  # seconds of load before the kill, at most
_WHOLE = 25  # runs between two verifications of the whole log
_OPERATIONS = ["encrypt", "decrypt", "data-key", "unwrap"]


def kill_drill(runs: int, *, seed: int | None = None, say: bool = False) -> Result:
    """Kill the server `runs` times."""
    result = Result("kill")
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="keyclave-drill-") as folder:
        live = launch(Path(folder), settings="checkpoint_seconds = 0.1")
        try:
            _run_all(live, Path(folder), runs, chance, result, say=say)
        finally:
            live.stop()
    result.ok = result.lost == 0 and result.runs == runs
    return result


def _run_all(live: Live, folder: Path, runs: int, chance: random.Random, result: Result, *, say: bool) -> None:
    live.create_key(KEY)
    application = live.token(_OPERATIONS, [KEY])
    auditor = Auditor(live, folder / "export", pinned_keys(live))
    older: list[Kept] = []
    for run in range(1, runs + 1):
        kept = _killed_under_load(live, application, chance.uniform(0.02, _LONGEST_RUN))
        if run % 20 == 0:
            _killed_at_start(live, chance.uniform(0.0, 1.0))
        began = time.monotonic()
        live.restart()
        if live.get("/v1/health").json()["status"] != "ok":
            result.lose(f"after run {run} the server does not serve")
            return
        result.served_after(time.monotonic() - began)
        _look(live, application, kept, auditor, result)
        older.append(kept)
        if run % _WHOLE == 0 or run == runs:
            auditor.verify(result)
            past = chance.choice(older)
            open_all(live, application, past.protected, result)
            find_changes(live, past, result)
        result.runs = run
        if say and run % 10 == 0:
            print(f"  kill: {run} of {runs}, {result.acknowledged:,} acknowledged, {result.lost} lost", flush=True)


def _killed_under_load(live: Live, application: str, seconds: float) -> Kept:
    load = Load(live, application)
    load.start()
    time.sleep(seconds)  # the moment is the point: any will do
    live.kill()
    return load.join()


def _killed_at_start(live: Live, seconds: float) -> None:
    live.process = start(live.home, live.port)
    time.sleep(seconds)
    live.kill()
    live.process = start(live.home, live.port)
    wait_until_up(live.url, live.ca_file, live.process)
    live.post("/v1/unseal", body={"share": live.shares[0]})  # killed with a share on its way
    live.kill()


def _look(live: Live, application: str, kept: Kept, auditor: Auditor, result: Result) -> None:
    result.acknowledged += kept.acknowledged
    for wrong in kept.wrong:
        result.lose(wrong)
    close_open(live, kept.open, result)
    open_all(live, application, kept.protected, result)
    find_changes(live, kept, result)
    auditor.receipts(kept.events, result)  # asking for a receipt makes the checkpoint that covers it
    auditor.export()
    auditor.find(kept.events, result)
    auditor.extends(kept, result)
