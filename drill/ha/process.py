"""Processes of the ground: started as another user where we are root, with their words in a file, and ended one by one.

Only what was started here is ever signalled: by its process id, never by a name.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE = 60.0  # seconds that a condition of the ground may take


class NotYet(Exception):
    """A condition did not come true in its time."""


def wait_for(what: str, condition: Callable[[], Any], seconds: float = PATIENCE, pause: float = 0.05) -> Any:
    """Return the first true answer of `condition`, asked again and again; raise `NotYet` after so many seconds.

    A refusal to connect counts as "not yet": the other side may be on its way up.
    """
    deadline = time.monotonic() + seconds
    last: Exception | None = None
    while time.monotonic() < deadline:
        try:
            answer = condition()
        except OSError as fault:
            answer, last = None, fault
        if answer:
            return answer
        time.sleep(pause)  # between two looks at a condition
    raise NotYet(f"{what}: not within {seconds:g} s" + (f" ({last})" if last else ""))


@dataclass(frozen=True)
class Account:
    """Who a process runs as: another account where we are root, else ourselves."""

    name: str
    uid: int
    gid: int

    @classmethod
    def of(cls, name: str) -> Account:
        """Return the account of that name where we are root; where we are not, our own."""
        entry = pwd.getpwnam(name) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)

    def switch(self) -> dict[str, Any]:
        """Return what subprocess needs to start something as this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if os.geteuid() == 0 else {}

    def own(self, path: Path, mode: int) -> Path:
        """Give a path to this account."""
        path.chmod(mode)
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid)
        return path

    def folder(self, path: Path, mode: int = 0o700) -> Path:
        """Make a folder of this account."""
        path.mkdir(parents=True, exist_ok=True)
        return self.own(path, mode)

    def file(self, path: Path, content: str | bytes, mode: int = 0o600) -> Path:
        """Write a file of this account; nobody else can read it at any moment."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        return self.own(path, mode)


@dataclass
class Program:
    """A program that can be started again and again: what to run, as whom, and where its words go."""

    name: str
    command: Sequence[str]
    account: Account
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, in a session of its own, so that no key pressed at our terminal reaches it."""
        surroundings = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": str(self.log.parent)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.command),
                env={**surroundings, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **self.account.switch(),
            )

    @property
    def runs(self) -> bool:
        """Tell whether it runs."""
        return self.process is not None and self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and see it gone."""
        self.send(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def end(self, seconds: float = 20.0) -> None:
        """Ask it to end; kill it when it does not."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        if self.process is not None:
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()

    def said(self, characters: int = 2000) -> str:
        """Return the end of what it said."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""


def children(pid: int) -> list[int]:
    """Return the process ids below a process, from /proc."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                rest = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # ended while we looked
            parents.setdefault(int(rest[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        below = parents.get(todo.pop(), [])
        found += below
        todo += below
    return found


def kill_all(pids: Sequence[int]) -> None:
    """kill -9 each of them that still runs, and wait until none is left."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    wait_for("the killed processes are gone", lambda: not any(_alive(pid) for pid in pids), 20)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
