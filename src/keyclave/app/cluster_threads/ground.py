"""What the threads of a node share: who it is, when it ends, how long a statement may take, and what was complained of."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sqlalchemy import Connection

from keyclave.core.errors import KeyclaveError
from keyclave.operations.desk import Desk
from keyclave.operations.nodes.contact import Contact
from keyclave.operations.nodes.membership import Membership
from keyclave.store.pg.connections import driver_of
from keyclave.store.pg.deadlines import Deadlines

logger = logging.getLogger("keyclave.nodes")

POLL_SECONDS = 0.1
STATEMENT_SECONDS = 2.0  # of one round: what takes longer is cut off
_SAID_AGAIN = 30.0


@dataclass(frozen=True)
class Settings:
    """`lease_seconds` bounds how long a revocation can take; `skew_seconds` how wrong this machine's clock may be; for
    `stale_seconds` after its lease the node may decrypt with keys that allow it (0: never)."""

    address: str
    lease_seconds: float
    skew_seconds: float
    checkpoint_seconds: float
    stale_seconds: float = 0.0


class Complaints:
    """What goes wrong again and again is said now and then."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def first(self, name: str) -> bool:
        """Tell whether this has not been said yet; from now on it has."""
        fresh = name not in self._said
        self._said.setdefault(name, time.monotonic())
        return fresh

    def over(self, name: str) -> None:
        """The next time is a new one."""
        self._said.pop(name, None)

    def complain(self, name: str, fault: BaseException) -> None:
        """Say why a thread cannot go on, unless it was said a moment ago."""
        now = time.monotonic()
        if now <= self._said.get(name, float("-inf")) + _SAID_AGAIN:
            return
        self._said[name] = now
        if isinstance(fault, KeyclaveError):
            logger.error("the %s cannot go on: %s → %s", name, fault.detail, fault.hint)
        else:
            logger.warning("the %s has lost the database: %s", name, str(fault).split("\n", 1)[0])


class Ground:
    """What all of them stand on."""

    desk: Desk  # from the start of the threads on

    def __init__(self, node: str, settings: Settings, membership: Membership) -> None:
        self.node = node
        self.settings = settings
        self.membership = membership
        self.contact = Contact()
        self.deadlines = Deadlines()
        self.ending = threading.Event()
        self.complaints = Complaints()

    def within(self, conn: Connection, seconds: float = STATEMENT_SECONDS) -> AbstractContextManager[None]:
        """Cut off what takes longer on this connection."""
        return self.deadlines.within(seconds, driver_of(conn))


class Part(ABC):
    """A thread's part. `round` works on a connection until it is lost, or the end."""

    name: str

    @abstractmethod
    def round(self, conn: Connection) -> None:
        """Work."""

    def begins(self) -> None:  # noqa: B027 - most have nothing to do
        """A connection is asked for."""

    def lost(self) -> None:  # noqa: B027
        """The connection is lost, or there was none."""
