"""The door of a listener: takes connections, and lets in those that finish their handshake.

A connection costs tens of kilobytes from the moment TLS begins on it, and whoever opens one need not say a word. So TLS begins
with the first byte that the other side sends, and only so many are on the doorstep at once, silent or in their handshake: the
oldest goes when one more comes. Whoever means it is through in a moment, so it is not theirs, short of a storm that fills the
doorstep anew in less time than a handshake takes; those who only stand there make room for others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable

from keyclave.core.errors import Unavailable

logger = logging.getLogger("keyclave")

_AT_ONCE = 32  # connections taken before the loop does anything else
_LEAST, _MOST = 128, 1024  # on the doorstep, of either kind
_HANDSHAKE_SECONDS = 10.0
_PAUSE = 0.5  # seconds without taking any, when the process has no file descriptor left
_BACKLOG = 4096


def bind(host: str, port: int) -> list[socket.socket]:
    """Return a bound socket for each address of `host`."""
    made: list[socket.socket] = []
    try:
        for family, kind, number, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
            one = socket.socket(family, kind, number)
            made.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
    except OSError as fault:
        for one in made:
            one.close()
        raise Unavailable(
            f"cannot listen on {host}:{port}: {fault.strerror}", "see `listen` in keyclave.toml; stop what has the port"
        ) from None
    return made


class Door:
    """Takes the connections of one listening socket; what uvicorn knows as a server."""

    def __init__(
        self,
        listening: socket.socket,
        made: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext | None,
        connections: int,
        *,
        seconds: float = _HANDSHAKE_SECONDS,
    ) -> None:
        """`made` makes the protocol of each connection, `connections` is how many may be kept open.

        `seconds` is how long one may be silent, and then how long its handshake may take.
        """
        self._listening = listening
        self._made = made
        self._context = context
        self._seconds = seconds
        self._most = min(max(connections, _LEAST), _MOST)
        self._silent: dict[socket.socket, float] = {}  # since when; the oldest first
        self._shaking: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._loop = asyncio.get_running_loop()
        self._closed = self._short = False
        listening.setblocking(False)
        listening.listen(_BACKLOG)
        self._open()
        self._sweep()

    def _open(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listening.fileno(), self._take)

    def _take(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                self._short = False
                return
            except OSError as fault:  # no descriptor, no memory: those who wait go on waiting, and those inside are served
                if not self._short:
                    logger.error("no connection can be taken: %s", fault.strerror)
                self._short = True
                self._loop.remove_reader(self._listening.fileno())
                self._loop.call_later(_PAUSE, self._open)
                return
            connection.setblocking(False)
            if len(self._silent) >= self._most:
                self._send_away(next(iter(self._silent)))
            self._silent[connection] = self._loop.time()
            self._loop.add_reader(connection.fileno(), self._speaks, connection)

    def _send_away(self, silent: socket.socket) -> None:
        del self._silent[silent]
        self._loop.remove_reader(silent.fileno())
        silent.close()

    def _speaks(self, connection: socket.socket) -> None:
        """The first byte is there, or the end: begin the handshake."""
        del self._silent[connection]
        self._loop.remove_reader(connection.fileno())
        if len(self._shaking) >= self._most:
            oldest = next(iter(self._shaking))
            del self._shaking[oldest]
            oldest.cancel()
        task = self._loop.create_task(self._let_in(connection))
        self._shaking[task] = None
        task.add_done_callback(lambda done: self._shaking.pop(done, None))

    async def _let_in(self, connection: socket.socket) -> None:
        seconds = None if self._context is None else self._seconds
        with contextlib.suppress(OSError):  # what is no TLS, goes away or takes too long: its own affair
            await self._loop.connect_accepted_socket(self._made, connection, ssl=self._context, ssl_handshake_timeout=seconds)

    def _sweep(self) -> None:
        """Send away who has been silent for too long."""
        late = self._loop.time() - self._seconds
        for connection, since in list(self._silent.items()):
            if since > late:
                break
            self._send_away(connection)
        self._sweeping = self._loop.call_later(self._seconds / 10, self._sweep)

    def close(self) -> None:
        """Take nobody any more; who is on the doorstep goes."""
        if not self._closed:
            self._closed = True
            self._sweeping.cancel()
            self._loop.remove_reader(self._listening.fileno())
            self._listening.close()
            for connection in list(self._silent):
                self._send_away(connection)
            for task in self._shaking:
                task.cancel()

    async def wait_closed(self) -> None:
        """Return when nobody is on the doorstep."""
        await asyncio.gather(*self._shaking, return_exceptions=True)
