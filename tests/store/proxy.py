"""A wire between the store and PostgreSQL that a test can cut, freeze or hold at the worst moment."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

Sent = Callable[[bytes], bool]
_FIELDS = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
_LAST_WORD = b"E" + struct.pack("!I", 4 + len(_FIELDS)) + _FIELDS  # ErrorResponse: PostgreSQL's protocol 3, message formats


class Line:
    """One connection through the wire."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self.deaf = False  # answers of the server are swallowed
        for run in (self._up, self._down):
            threading.Thread(target=run, daemon=True).start()

    def _up(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.client.recv(1 << 16):
                if not self.proxy.flow.wait(60):
                    return
                held = self.proxy.look(self, data)
                if not held:
                    self.server.sendall(data)
        if not self.proxy.holding:
            self._end(self.server)

    def _down(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.server.recv(1 << 16):
                if not self.proxy.flow.wait(60):
                    return
                if self.deaf:
                    self.cut()
                    return
                self.client.sendall(data)
        self._end(self.client)

    def cut(self) -> None:
        """Cut the client off."""
        self._end(self.client)

    def reset(self, word: bytes) -> None:
        """Say a last word to the client and close, with something unread: the client can read the word, and has an error then."""
        select.select([self.client], [], [], 10)
        self.client.sendall(word)
        self.client.close()

    @staticmethod
    def _end(side: socket.socket) -> None:
        with contextlib.suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Listens where the store connects, passes everything on, until it is told otherwise.

    lose_answer(part)   what holds `part` reaches the server, and its answer nobody
    lose_request(part)  what holds `part` does not reach the server; the client is cut off
    hold(part)          likewise, but `release` lets it arrive late
    reset_at(part)      what holds `part` is answered with the last word of a server that ends a session, and a reset behind it;
                        to be a reset, more has to follow than is read at once (64 KiB)
    freeze / thaw       nothing moves, in either direction
    """

    def __init__(self, folder: Path, target: str) -> None:
        self._target = target
        self.host, self.port = str(folder), 5432
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{folder}/.s.PGSQL.{self.port}")
        self._listener.listen(64)
        self.flow = threading.Event()
        self.flow.set()
        self.open = True  # whether new connections are taken
        self.lines: list[Line] = []
        self.holding: list[tuple[Line, bytes]] = []
        self._plan: tuple[str, bytes] | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if not self.open:
                    client.close()
                    continue
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._target)
                self.lines.append(Line(self, client, server))

    def look(self, line: Line, data: bytes) -> bool:
        """Do what is planned for this data; return whether it is kept from the server."""
        if self._plan is None or self._plan[1] not in data:
            return False
        (what, _), self._plan = self._plan, None
        if what == "answer":
            line.deaf = True
            return False
        if what == "reset":
            line.reset(_LAST_WORD)
            return True
        if what == "hold":
            self.holding.append((line, data))
        line.cut()
        return True

    def lose_answer(self, part: bytes) -> None:
        """See the class."""
        self._plan = ("answer", part)

    def lose_request(self, part: bytes) -> None:
        """See the class."""
        self._plan = ("request", part)

    def hold(self, part: bytes) -> None:
        """See the class."""
        self._plan = ("hold", part)

    def reset_at(self, part: bytes) -> None:
        """See the class."""
        self._plan = ("reset", part)

    def release(self) -> None:
        """Let what was held arrive, and close its connection after it."""
        for line, data in self.holding:
            line.server.sendall(data)
        self.holding.clear()

    def freeze(self) -> None:
        """See the class."""
        self.flow.clear()

    def thaw(self) -> None:
        """See the class."""
        self.flow.set()

    def cut_all(self) -> None:
        """Cut every connection."""
        for line in self.lines:
            line.cut()
        self.lines.clear()

    def close(self) -> None:
        """End everything."""
        self.flow.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()


@contextlib.contextmanager
def before(target: str, folder: Path) -> Iterator[Proxy]:
    """Stand before the socket `target`."""
    made = Proxy(folder, target)
    try:
        yield made
    finally:
        made.close()
