"""Server processes of a run: started, waited for, looked at through /proc, and ended by their own process id."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

WAIT_SECONDS = 60
_TICK = os.sysconf("SC_CLK_TCK")
_BETWEEN_LOOKS = 0.005


class Gone(RuntimeError):
    """A server ended or never answered; the message ends with the last lines of what it wrote."""


def free_port() -> int:
    """Return a port of the loopback address that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """One server. What it writes goes to `log`."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.log = log
        self.started = time.monotonic()
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **(environment or {})}
            )
        self.pid = self._child.pid

    def wait_until(self, url: str, answers: Sequence[int] = (200,)) -> float:
        """Return the seconds from the start of the process to its first answer at `url` with one of these status codes."""
        anyone = ssl.create_default_context()
        anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE  # what is asked is only whether it answers
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            if self._child.poll() is not None:
                break
            try:
                context = anyone if url.startswith("https") else None
                with urllib.request.urlopen(url, timeout=5, context=context) as answer:
                    status = answer.status
            except urllib.error.HTTPError as error:
                status = error.code
            except OSError:
                status = 0
            if status in answers:
                return time.monotonic() - self.started
            time.sleep(_BETWEEN_LOOKS)
        raise Gone(f"no answer from {url}\n" + "\n".join(self.log.read_text(errors="replace").splitlines()[-12:]))

    def cpu_seconds(self) -> float:
        """Return the CPU time, user and system, of the process and everything below it."""
        return sum(_cpu_seconds(pid) for pid in _family(self.pid))

    def rss_mib(self) -> float:
        """Return the resident memory of the process and everything below it, in MiB."""
        return sum(_status(pid, "VmRSS") for pid in _family(self.pid)) / 1024

    def stop(self) -> None:
        """Ask it to end, and end it if it does not listen."""
        if self._child.poll() is not None:
            return
        self._child.send_signal(signal.SIGTERM)
        try:
            self._child.wait(20)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def busy_cpus(seconds: float) -> float:
    """Return how many CPUs the whole machine keeps busy, over some seconds in which the caller does nothing."""
    idle, total = _cpu_times()
    time.sleep(seconds)
    idle_now, total_now = _cpu_times()
    return (os.cpu_count() or 1) * (1 - (idle_now - idle) / max(1, total_now - total))


def _cpu_times() -> tuple[int, int]:
    """Return idle time (waiting for the disk included) and all time of all CPUs, from the first line of /proc/stat."""
    times = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return times[3] + times[4], sum(times)


def _family(pid: int) -> list[int]:
    found = [pid]
    for parent in found:  # grows while it is walked: children, then theirs
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue  # a thread that ended meanwhile
    return found


def _cpu_seconds(pid: int) -> float:
    """Fields 14 to 17 of /proc/PID/stat (proc(5)): of the process, and of its children that have ended."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in after_name[11:15]) / _TICK


def _status(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name + ":")), 0)
