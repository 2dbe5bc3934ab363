"""`keyclave serve --workers N`: one supervisor, and N worker processes that serve the same home.

The supervisor binds the addresses, starts the workers, replaces one that ends, and ends them all when it is told to. It opens no
database, speaks to no client and never holds a key; what keeps the workers alike is in `keyclave.app.house`.

Each worker has a listening socket of its own on the same address (SO_REUSEPORT): the kernel spreads connections evenly, where one
socket shared by all gives nearly every connection of a burst to whoever wakes first. The supervisor keeps the sockets, so whoever
connects while a worker is replaced waits for the new one and is not refused. Where none comes up, nobody goes on waiting.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from keyclave.app import part
from keyclave.app.config import Config, Listen
from keyclave.app.house import House
from keyclave.app.notes import Word, pair, receive
from keyclave.core.errors import Unavailable

logger = logging.getLogger("keyclave")

_LOOK_SECONDS = 0.2
_TRIES = 3  # ends in a row before a worker could serve: then something is wrong that no further try mends
_SOONEST = 0.1  # seconds to the next try; doubled by each that fails early
_LATEST = 10.0
_EARLY = 10.0  # seconds of serving: whoever ends sooner is started later
_STOPPED_SECONDS = 2.0  # that a stopped process is silent before it is replaced
_SILENT_SECONDS = 30.0  # that any other is, while another worker is well
_END_SECONDS = 20.0  # to finish what is in flight


class Place:
    """An address that every worker listens on, each with a socket of its own."""

    def __init__(self, listen: Listen) -> None:
        """See that nobody listens there: with a second server on this port the kernel would silently share it."""
        self._host, self.port = listen.host, listen.port
        with self.bind(alone=True) as probe:
            self.port = int(probe.getsockname()[1])

    def __str__(self) -> str:
        return f"{self._host}:{self.port}"

    def bind(self, *, alone: bool = False) -> socket.socket:
        """Return a socket that is bound and does not listen yet."""
        one = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if not alone:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind((self._host, self.port))
        except OSError as fault:
            one.close()
            raise Unavailable(
                f"cannot listen on {self}: {fault.strerror}",
                "see `listen` in keyclave.toml; stop what has the port",
            ) from None
        return one


class Worker:
    """One among the workers, and the process that does its work now."""

    def __init__(self, number: int, places: list[Place]) -> None:
        self.number = number
        self._places = places
        self.sockets = [place.bind() for place in places]
        self.channel: socket.socket = self.sockets[0]  # until there is a process
        self.process: subprocess.Popen[bytes] | None = None
        self.failed = 0  # ends in a row before it was ready
        self.delay = _SOONEST
        self.due = 0.0  # when to start the next one
        self.began = self.heard = 0.0
        self.ready = self.open = self.serving = False

    def start(self, command: list[str], count: int, lock: IO[bytes], *, first: bool, lost: bool = False) -> None:
        """Start a process in this place."""
        self.channel, theirs = pair()
        self.ready = self.open = self.serving = False
        self.began = self.heard = time.monotonic()
        inherited = [theirs, *self.sockets]
        given = part.Part(
            number=self.number, count=count, parent=os.getpid(), first=first, lost=lost, channel=theirs.fileno(),
            lock=lock.fileno(), sockets=tuple(one.fileno() for one in self.sockets),
        )  # fmt: skip
        self.process = subprocess.Popen(
            [*command, "--part", part.encode(given)],
            pass_fds=[*(one.fileno() for one in inherited), lock.fileno()],
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is for the supervisor, which tells the workers
        )
        theirs.close()

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, if there is one."""
        if self.process is not None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End the process at once."""
        self.send_signal(signal.SIGKILL)

    def shut(self) -> None:
        """Listen no more until the next process does: who waits here goes to another worker."""
        for listening in self.sockets:
            listening.close()
        self.sockets = [place.bind() for place in self._places]

    def stopped(self) -> bool:
        """Tell whether the process is stopped (SIGSTOP): the state in /proc/PID/stat, proc(5)."""
        if self.process is None:
            return False
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] == "T"

    def ended(self, now: float) -> None:
        """Note that the process has ended, and when to start the next."""
        self.channel.close()
        self.process = None
        self.failed = 0 if self.ready else self.failed + 1
        self.delay = _SOONEST if self.serving and now - self.began > _EARLY else min(2 * self.delay, _LATEST)
        self.due = now + self.delay
        self.ready = self.open = self.serving = False


class Supervisor:
    """Starts, watches, replaces and ends the workers."""

    def __init__(self, command: list[str], workers: list[Worker], lock: IO[bytes]) -> None:
        self._command = command
        self._workers = workers
        self._lock = lock
        self._house = House(lambda: [one for one in self._workers if one.process is not None])
        self._selector = selectors.DefaultSelector()
        self._ending = 0.0  # when whoever is left is killed; 0 while serving
        self._code = 0

    def run(self) -> int:
        """Serve until a signal says to stop; return the exit code."""
        signals = _signals_to(self._selector)
        for one in self._workers:
            self._start(one, first=True)
        while not self._ending or any(one.process is not None for one in self._workers):
            for key, _ in self._selector.select(_LOOK_SECONDS):
                if isinstance(key.data, Worker):
                    self._listen(key.data)
                else:
                    self._signalled(signals.recv(4096))
            self._look(time.monotonic())
        return self._code

    def _start(self, worker: Worker, *, first: bool = False) -> None:
        worker.start(self._command, len(self._workers), self._lock, first=first, lost=self._house.lost)
        self._selector.register(worker.channel, selectors.EVENT_READ, worker)

    def _listen(self, worker: Worker) -> None:
        while True:
            try:
                got = receive(worker.channel)
            except BlockingIOError:
                return
            except Exception as fault:
                logger.error("worker %d says what is no note (%s) and is ended", worker.number, fault)
                worker.kill()
                got = None
            if got is None:
                self._selector.unregister(worker.channel)
                return
            worker.heard = time.monotonic()
            if got[0].word is Word.BEAT:
                continue
            self._house.heard(worker, *got)
            if got[0].word is Word.READY:
                worker.failed = 0

    def _signalled(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGCHLD:
                continue  # _look finds who it was
            logger.info("%s: ending the workers", signal.Signals(number).name)
            self._end(signal.SIGTERM if number == signal.SIGHUP else number)

    def _end(self, number: int, code: int = 0) -> None:
        self._code = self._code or code
        if not self._ending:
            self._ending = time.monotonic() + _END_SECONDS
        for one in self._workers:
            for listening in one.sockets:
                listening.close()
            one.send_signal(number)

    def _look(self, now: float) -> None:
        for one in self._workers:
            if one.process is not None and one.process.poll() is not None:
                self._ended(one, one.process.returncode, now)
        self._house.look()
        if self._ending:
            if now >= self._ending:
                for one in self._workers:
                    one.kill()
            return
        for one in self._workers:
            if one.process is None and now >= one.due:
                self._start(one)
        self._look_for_silent(now)

    def _ended(self, worker: Worker, code: int, now: float) -> None:
        if worker.channel in self._selector.get_map():
            self._listen(worker)  # what it said last
        if worker.channel in self._selector.get_map():
            self._selector.unregister(worker.channel)
        worker.ended(now)
        self._house.gone(worker, ending=bool(self._ending))
        if self._ending:
            return
        how = signal.Signals(-code).name if code < 0 else f"code {code}"
        if worker.failed >= _TRIES and any(one.serving for one in self._workers):
            worker.shut()
            logger.error(
                "worker %d ended %d times before it could serve (%s), its reason stands above; the others serve on, and the next "
                "one starts in %.1f s", worker.number, worker.failed, how, worker.delay,
            )  # fmt: skip
        elif worker.failed >= _TRIES:
            logger.critical(
                "worker %d ended %d times before it could serve (%s): the server stops. Its reason stands above; correct it and "
                "start again", worker.number, worker.failed, how,
            )  # fmt: skip
            self._end(signal.SIGTERM, 1)
        else:
            logger.error("worker %d ended (%s); the next one starts in %.1f s", worker.number, how, worker.delay)

    def _look_for_silent(self, now: float) -> None:
        """Replace a worker that is stopped, or does not answer while another is well; never the last one."""
        well = [one for one in self._workers if one.serving and now - one.heard < _SILENT_SECONDS / 2 and not one.stopped()]
        for one in self._workers:
            if one.process is None or not one.serving or not [other for other in well if other is not one]:
                continue
            silent = now - one.heard
            if silent > _SILENT_SECONDS or (silent > _STOPPED_SECONDS and one.stopped()):
                logger.error("worker %d has not been heard for %.1f s and is ended", one.number, silent)
                one.heard = now
                one.kill()


def _signals_to(selector: selectors.BaseSelector) -> socket.socket:
    """Have signals wake the selector; return where their numbers come."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    selector.register(ours, selectors.EVENT_READ)
    signal.set_wakeup_fd(theirs.detach(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda _number, _frame: None)
    return ours


def supervise(config: Config, home: Path, lock: IO[bytes], arguments: list[str]) -> int:
    """Serve `home` with `[listen] workers` processes; `arguments` are those of `serve`, for them."""
    places = [Place(listen) for listen in ([config.listen] if config.data is None else [config.listen, config.data])]
    workers = [Worker(number, places) for number in range(config.listen.workers)]
    command = [sys.executable, "-m", "keyclave.app", "serve", "--home", str(home), *arguments]
    logger.info("%d workers serve %s", len(workers), ", ".join(map(str, places)))
    return Supervisor(command, workers, lock).run()
