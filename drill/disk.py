"""The disk fills up under load: operations are refused, nothing is corrupt, and all goes on by itself once there is space again.

Two ways of filling it. `disk_full`: the home lies on a small file system in memory that a ballast file fills to the last byte
(ENOSPC); needs the right to mount. `file_limit`: the running process may not write its files any further (RLIMIT_FSIZE, EFBIG);
needs no right.
"""

from __future__ import annotations

import base64
import errno
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from drill.evidence import Auditor, close_open, find_changes, open_all, pinned_keys
from drill.load import KEY, Kept, Load
from drill.result import Result
from tests.live import ENVIRONMENT, Live, launch

_OPERATIONS = ["encrypt", "decrypt", "data-key", "unwrap"]
_SIZE = "512m"  # a run leaves about 15 MiB in write-ahead log and database, whose own data must not fill it
_PATIENCE = 30  # seconds that filling up, and recovering, may take
_ENCRYPT = "/v1/keys/drill/encrypt", {"plaintext": base64.b64encode(b"record").decode()}

Filling = Callable[[Live, Path], AbstractContextManager[None]]


def can_mount() -> bool:
    """Tell whether this process may mount a file system."""
    with tempfile.TemporaryDirectory() as folder:
        if subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True, check=False).returncode:
            return False
        subprocess.run(["umount", folder], check=True)
        return True


def disk_drill(runs: int) -> Result:
    """Fill the file system of the home `runs` times; without the right to mount, `file_limit_drill` is all there is."""
    with tempfile.TemporaryDirectory(prefix="keyclave-drill-") as folder, _small_disk(Path(folder)):
        return _drill("disk_full", Path(folder), runs, _ballast)


def file_limit_drill(runs: int) -> Result:
    """Forbid the process `runs` times to write on."""
    with tempfile.TemporaryDirectory(prefix="keyclave-drill-") as folder:
        return _drill("file_limit", Path(folder), runs, _limit)


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE},mode=0700", "none", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def _ballast(_live: Live, folder: Path) -> Iterator[None]:
    """Fill the file system to the last byte."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file:
        for piece in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(bytes(piece))
            except OSError as fault:
                if fault.errno != errno.ENOSPC:
                    raise
    try:
        yield
    finally:
        path.unlink()


@contextmanager
def _limit(live: Live, _folder: Path) -> Iterator[None]:
    """Let no file of the process grow."""
    largest = max(path.stat().st_size for path in live.home.glob("keyclave.db*"))
    soft, hard = resource.prlimit(live.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(live.process.pid, resource.RLIMIT_FSIZE, (largest, hard))
    try:
        yield
    finally:
        if live.process.poll() is None:
            resource.prlimit(live.process.pid, resource.RLIMIT_FSIZE, (soft, hard))


def _drill(name: str, folder: Path, runs: int, filling: Filling) -> Result:
    result = Result(name)
    live = launch(folder, settings="checkpoint_seconds = 0.1")
    with tempfile.TemporaryDirectory(prefix="keyclave-export-") as export:
        try:
            live.create_key(KEY)
            live.create_key("turned")
            application = live.token(_OPERATIONS, [KEY])
            auditor = Auditor(live, Path(export) / "log", pinned_keys(live))
            for run in range(1, runs + 1):
                _run(live, application, auditor, lambda: filling(live, folder), result)
                result.runs = run
            _killed_when_full(live, filling(live, folder), result)
            _go_on(live, application, result)
            auditor.export()
            auditor.verify(result)
        finally:
            live.stop()
    result.ok = result.lost == 0 and result.runs == runs
    return result


def _run(
    live: Live, application: str, auditor: Auditor, filled: Callable[[], AbstractContextManager[None]], result: Result
) -> None:
    load = Load(live, application, patient=True)
    load.start()
    time.sleep(0.3)
    name = f"made-when-full-{result.runs}"
    with filled():
        if not _within(lambda: load.kept.refused > 50):
            result.lose("nothing was refused though nothing could be written")
        _try(live, application, load.kept, name, result)
        if not _within(lambda: _ready(live) == (503, "store")):
            result.lose(f"it says that it is {_ready(live)} though nothing could be written")
        if live.get("/v1/status").status_code != 200:
            result.lose("the server does not even say how it is")
    _go_on(live, application, result)
    time.sleep(0.1)  # some load after the recovery
    kept = load.join()
    _look(live, application, kept, auditor, result)
    if name not in kept.keys and live.get(f"/v1/keys/{name}", "custodian").status_code != 404:
        result.lose("a key exists whose creation was refused")


def _try(live: Live, application: str, kept: Kept, name: str, result: Result) -> None:
    """Ask for one of each kind. It is refused, or done for good: what was copied back leaves room in the log's own file, now and
    then enough for an answer."""
    tries = [
        ("encrypt", *_ENCRYPT, application),
        ("data-key", "/v1/keys/drill/data-key", {}, application),
        ("key-create", "/v1/keys", {"name": name, "owner": "drill"}, "custodian"),
        ("rotate", "/v1/keys/turned/rotate", {}, "operator"),
    ]
    for op, path, body, token in tries:
        answer = live.post(path, token, body)
        said = answer.json()
        if answer.status_code < 300:  # then it is found again, or it is lost
            kept.events[said["event"]] = op, "ok"
            if op == "key-create":
                kept.keys[name] = said["id"]
        elif (answer.status_code, said.get("code")) != (503, "unavailable"):
            result.lose(f"{path} answered {answer.status_code} though nothing could be written: {answer.text[:120]}")


def _go_on(live: Live, application: str, result: Result) -> None:
    """Wait until operations go through again, by themselves."""
    path, body = _ENCRYPT
    began = time.monotonic()
    if not _within(lambda: live.post(path, application, body).status_code == 200):
        result.lose("the server did not recover by itself")
    if not _within(lambda: _ready(live) == (200, "ready")):
        result.lose(f"it serves again and says that it is {_ready(live)}")
    result.served_after(time.monotonic() - began)


def _ready(live: Live) -> tuple[int, str]:
    answer = live.get("/v1/health/ready")
    return answer.status_code, answer.json()["status"]


def _look(live: Live, application: str, kept: Kept, auditor: Auditor, result: Result) -> None:
    result.acknowledged += kept.acknowledged
    for wrong in kept.wrong:
        result.lose(wrong)
    close_open(live, kept.open, result)
    open_all(live, application, kept.protected, result)
    find_changes(live, kept, result)
    auditor.receipts(kept.events, result)
    auditor.export()
    auditor.find(kept.events, result)
    auditor.extends(kept, result)


def _killed_when_full(live: Live, filled: AbstractContextManager[None], result: Result) -> None:
    """Kill it while it cannot write. Started then, it says what is wrong or serves; started when there is space, it serves."""
    with filled:
        live.kill()
        command = [sys.executable, "-m", "keyclave.app", "serve", "--home", str(live.home), "--port", str(live.port)]
        with subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            try:
                _, said = process.communicate(timeout=3)
            except subprocess.TimeoutExpired:
                process.kill()
                _, said = process.communicate()
            if process.returncode not in (-signal.SIGKILL, 1) or b"Traceback" in said:
                result.lose(f"started on a full disk it ended with {process.returncode}: {said.decode()[-200:]}")
    began = time.monotonic()
    live.restart()
    result.served_after(time.monotonic() - began)


def _within(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)  # between two looks at a condition
    return False
