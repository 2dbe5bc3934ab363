"""Answers over TLS that leave together: first all are written, then all are encrypted.

As with what arrives (`arrivals`): going back and forth between writing an answer and encrypting one, for each of many
connections, costs every request about 10 % more than doing one after the other for all of them. Without TLS there is nothing to
gain.

An answer that waits here is the only one of its connection. Whatever else is written on that connection, or ends it, has those
that wait leave first.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

logger = logging.getLogger("keyclave.rest")


class Departing(Protocol):
    """A connection."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport


class Departures:
    """What waits for the end of the loop's turn."""

    def __init__(self) -> None:
        self.waiting: list[tuple[asyncio.Transport, bytes]] = []

    def add(self, connection: Departing, answer: bytes) -> None:
        """Let an answer leave in the loop's next turn."""
        self.waiting.append((connection.transport, answer))
        if len(self.waiting) == 1:
            connection.loop.call_soon(self.leave)

    def leave(self) -> None:
        """Send what waits. A connection that fails at it fails alone."""
        waiting, self.waiting = self.waiting, []
        for transport, answer in waiting:
            try:
                if not transport.is_closing():
                    transport.write(answer)
            except Exception as fault:
                logger.error("an answer failed", exc_info=fault)
                transport.abort()
