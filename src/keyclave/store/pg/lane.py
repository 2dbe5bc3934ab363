"""The connection on which the event loop itself keeps events: no thread is woken for them, and none waits for another's turn.

Nearly all groups are events alone: one INSERT, which is its own transaction. Handing those to a thread costs two changes of
threads for each group, and while the loop is busy each of them waits for the interpreter's lock (up to 5 ms). So the loop sends
the statement, goes on, and takes the answer when the socket has it (libpq's asynchronous interface). Whatever else a group needs,
and every fault, is the writing thread's matter.

The loop does not look at the socket itself but at an epoll of our own that has it alone. uvloop stops looking at a socket for
good once the other end has reset it, even if there is still something to read: after a last word and a reset, the word alone
would be read, and whoever waits here would wait for ever. And a socket's number may be another file's as soon as libpq has closed
it.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import time
from collections.abc import Callable

import psycopg
from psycopg import pq
from sqlalchemy import Connection

from keyclave.store.pg.deadlines import Deadlines

_NAME = b"keep"
_STATEMENT = b"INSERT INTO journal (node, first, count, entries) VALUES ($1, $2::bigint, $3::int, $4)"
_FORMATS = [pq.Format.TEXT, pq.Format.TEXT, pq.Format.TEXT, pq.Format.BINARY]

Told = Callable[[psycopg.Error | None, bool], None]
"""What became of the row: no fault, or one; and whether the connection was lost, so that the row may be there or not."""


class Unconfirmed(psycopg.Error):
    """The server committed with a warning: no standby has confirmed it."""


class Lane:
    """One connection, used by the loop alone once it is made. At most one row is on its way."""

    def __init__(self, conn: Connection, loop: asyncio.AbstractEventLoop, deadlines: Deadlines, lose: Callable[[], None]) -> None:
        """Take a connection that nobody else uses, and prepare it; `lose` is told when it leads nowhere any more.

        This asks the database: never on a loop that serves.
        """
        self._conn = conn
        self._driver: psycopg.Connection[object] = conn.connection.driver_connection  # type: ignore[assignment]
        self._line = self._driver.pgconn
        self._loop, self._deadlines, self._lose = loop, deadlines, lose
        self._watched = False
        self._told: Told | None = None
        self._wait = -1
        self._result: pq.abc.PGresult | None = None
        self._warned: list[str] = []
        self._socket = self._line.socket
        self._events = select.epoll()
        self._events.register(self._socket, select.EPOLLIN)
        self._writing = False
        self._driver.add_notice_handler(lambda notice: self._warned.append(notice.message_primary or ""))
        prepared = self._line.prepare(_NAME, _STATEMENT, None)
        if prepared.status != pq.ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(prepared)
        self._line.nonblocking = 1

    @property
    def busy(self) -> bool:
        """Whether a row is on its way."""
        return self._told is not None

    @property
    def stranded(self) -> bool:
        """Whether its loop has ended."""
        return self._loop.is_closed()

    def keep(self, node: str, first: int, count: int, packed: bytes, seconds: float, told: Told) -> None:
        """Send a row of a journal, on the loop; `told` hears, later, what became of it. After `seconds` the connection is cut."""
        if not self._watched:
            self._watched = True
            self._loop.add_reader(self._events.fileno(), self._happened)
        self._told, self._result = told, None
        self._warned.clear()
        self._wait = self._deadlines.begin(seconds, self._driver)
        try:
            self._line.send_query_prepared(_NAME, [node.encode(), b"%d" % first, b"%d" % count, packed], _FORMATS)
            self._flush()
        except psycopg.Error as fault:
            self._loop.call_soon(self._over, fault)

    def _flush(self) -> None:
        """Send what libpq still holds; the rest when the socket takes more."""
        more = bool(self._line.flush())
        if more != self._writing:
            self._writing = more
            with contextlib.suppress(OSError):  # closed by libpq: who reads hears of it
                self._events.modify(self._socket, select.EPOLLIN | (select.EPOLLOUT if more else 0))

    def _happened(self) -> None:
        """The socket takes more, or has something: an answer, or an end."""
        if self._writing:
            try:
                self._flush()
            except psycopg.Error as fault:
                self._over(fault)
                return
        self._readable()

    def _readable(self) -> None:
        """Take what has come: an answer, or the end of the line."""
        try:
            self._line.consume_input()
            while not self._line.is_busy():
                result = self._line.get_result()
                if result is None:
                    self._answered()
                    return
                self._result = result
        except psycopg.Error as fault:
            self._over(fault)

    def _answered(self) -> None:
        result = self._result
        if self._told is None:  # nothing was asked: the server said something by the way, or goodbye
            if self._line.status == pq.ConnStatus.BAD:
                self._over(psycopg.OperationalError("the connection was lost"))
        elif result is None:
            self._over(psycopg.OperationalError("the connection was lost"))
        elif result.status != pq.ExecStatus.COMMAND_OK:
            self._over(psycopg.errors.error_from_result(result))
        else:
            self._over(Unconfirmed(self._warned[0]) if self._warned else None)

    def _over(self, fault: psycopg.Error | None) -> None:
        """Tell what became of the row, if one is on its way, and notice a loss."""
        told, self._told = self._told, None
        if told is not None:
            self._deadlines.end(self._wait)
        lost = self._line.status == pq.ConnStatus.BAD
        if lost:
            self._unwatch()
            self._lose()
        if told is not None:
            told(fault, lost)

    def finish(self, seconds: float) -> None:
        """Wait, on the loop's own thread, until what is on its way is told."""
        end = time.monotonic() + seconds
        while self.busy and time.monotonic() < end:
            self._events.poll(max(0.0, end - time.monotonic()), 1)
            self._happened()

    def _unwatch(self) -> None:
        """Have the loop forget the socket."""
        watched, self._watched = self._watched, False
        if watched and not self.stranded:
            self._loop.remove_reader(self._events.fileno())

    def close(self) -> None:
        """Close the connection. Only on the loop, and when nothing is on its way."""
        self._unwatch()
        self._events.close()
        with contextlib.suppress(Exception):
            self._conn.invalidate()
            self._conn.close()
