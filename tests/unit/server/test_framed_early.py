"""Answers whose head is put before them while the disk is busy: the same bytes leave, and none that was overtaken by an error."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from keyclave.core.errors import KeyclaveError, Unavailable
from keyclave.operations.table import OPERATIONS
from keyclave.protocols.rest.cycle import Cycle
from keyclave.protocols.rest.departures import Departures
from tests.unit.server.test_fast_lane import Connection, loop, turn

__all__ = ["loop"]

BY_NAME = {op.name: op for op in OPERATIONS if op.method == "POST" and not op.batch}
BODY = b'{"event":"n1-7","ciphertext":"eA=="}'


def attempt(error: KeyclaveError | None = None) -> Any:
    return SimpleNamespace(drafted=BODY, error=error, event="" if error else "n1-7")


def answered(
    loop: asyncio.AbstractEventLoop,
    name: str,
    *,
    early: bool,
    together: bool,
    ending: bool = False,
    error: KeyclaveError | None = None,
) -> tuple[bytes, bool, Cycle]:
    """Return what one request of that operation is sent, whether its connection is closed then, and the request."""
    connection = Connection(loop, Departures() if together else None)
    lane = connection.lane
    lane.cycle = cycle = Cycle(lane, (BY_NAME[name], "ab", b""), keep_alive=True)
    if early:
        cycle.ready(attempt())
        turn(loop)
    assert connection.transport.written == []
    if ending:
        lane.shutdown()
    cycle.reply(attempt(error))
    turn(loop)
    return b"".join(connection.transport.written), connection.transport.closed, cycle


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("ending", [False, True])
@pytest.mark.parametrize("name", ["encrypt", "data-key", "key-create"])
def test_what_leaves_is_the_same(loop: asyncio.AbstractEventLoop, name: str, ending: bool, together: bool) -> None:
    seen = [answered(loop, name, early=early, together=together, ending=ending) for early in (False, True)]
    (late, late_closed, _), (early, early_closed, cycle) = seen
    head, _, body = early.partition(b"\r\n\r\n")
    assert (early, early_closed) == (late, late_closed) == (early, ending)
    assert body == BODY and b"content-length: %d" % len(BODY) in head
    assert head.startswith(b"HTTP/1.1 201" if name == "key-create" else b"HTTP/1.1 200")
    assert (b'etag: "1"' in head, b"connection: close" in head) == (name == "key-create", ending)
    assert cycle.response_complete
    assert cycle.written == b"", "an answer is not held on to until the connection's next request"


@pytest.mark.parametrize("together", [False, True])
def test_an_answer_that_turned_out_not_to_be_one_never_leaves(loop: asyncio.AbstractEventLoop, together: bool) -> None:
    error = Unavailable("the database does not answer", "try again")
    sent, _, cycle = answered(loop, "encrypt", early=True, together=together, error=error)
    assert sent.startswith(b"HTTP/1.1 503")
    assert b"ciphertext" not in sent
    assert cycle.written == b""


def test_whoever_has_gone_is_sent_nothing(loop: asyncio.AbstractEventLoop) -> None:
    connection = Connection(loop)
    cycle = Cycle(connection.lane, (BY_NAME["encrypt"], "ab", b""), keep_alive=True)
    cycle.ready(attempt())
    cycle.disconnected = True
    cycle.reply(attempt())
    assert connection.transport.written == []
    assert cycle.written == b""
