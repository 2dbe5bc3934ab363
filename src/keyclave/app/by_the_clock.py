"""The few things that go by the clock: checkpoints, what is tidied, connections that dawdle, refusals, ends, the clock itself."""

from __future__ import annotations

import asyncio
import logging
import time

from keyclave.app.config import Config
from keyclave.app.listeners import Listener, end
from keyclave.app.newest import Newest
from keyclave.app.stores import AnyStore
from keyclave.app.wiring import keep_seen, keep_tidy, mark_time
from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import Unavailable
from keyclave.crypto.heap import give_back
from keyclave.operations.desk import Desk
from keyclave.operations.elevation.upkeep import keep_elevations
from keyclave.operations.unseal import close_house
from keyclave.protocols.rest.refusals import Refusals

logger = logging.getLogger("keyclave")

_TIDY_SECONDS = 1  # the longer the log has grown, the longer its commits wait for the disk while it is copied back
_MARK_SECONDS = 60
_WORD_SECONDS = 30  # between two lines about the same trouble
_SEEN_SECONDS = 30  # between two writes of when sessions were last used
_NOTICEABLE = 1.0  # seconds: less is the ordinary slewing of a clock


class ByTheClock:
    """Takes a turn at each checkpoint's time, for as long as the server runs."""

    def __init__(
        self,
        config: Config,
        desk: Desk,
        store: AnyStore,
        refusals: Refusals,
        listeners: list[Listener],
        newest: Newest | None,
    ) -> None:
        """`newest`: where this process keeps the newest checkpoint; None if another one does."""
        self._seconds = config.log.checkpoint_seconds
        self._desk = desk
        self._store = store
        self._refusals = refusals
        self._listeners = listeners
        self._newest = newest
        self._next_tidy = self._next_seen = self._next_word = 0.0
        self._next_mark = 0
        self._said_behind = False

    async def run(self) -> None:
        """Take turns. What fails is said and tried again at the next one."""
        while True:
            await asyncio.sleep(self._seconds)
            now = time.monotonic()
            try:
                await self._turn(now)
            except Unavailable as fault:
                if now >= self._next_word:  # the store may be away for hours
                    self._next_word = now + _WORD_SECONDS
                    logger.error("checkpoints and what else goes by the clock wait: %s", fault.detail)
            except Exception:
                logger.exception("what goes by the clock failed, and is tried again")
            if now >= self._next_tidy:
                self._next_tidy = now + _TIDY_SECONDS
                await asyncio.get_running_loop().run_in_executor(None, self._store.tidy)
                self._store.rewind()
                give_back()

    async def _turn(self, now: float) -> None:
        desk, store = self._desk, self._store
        self._refusals.tell()
        if desk.module.fault():
            self._stop()
        for one in self._listeners:
            one.sweep(now)
        self._look_at_clock()
        if not store.sequenced:
            desk.log.keep_signed()
            signed = desk.log.checkpoint
        else:  # there the sequencer signs. What follows asks the database on the loop: not while a network swallows everything
            signed = await asyncio.to_thread(store.last_checkpoint)
        if self._newest is not None:
            await asyncio.to_thread(self._newest.keep, signed)
        keep_elevations(desk)
        if now >= self._next_seen or desk.callers.seen_is_due:
            self._next_seen = now + _SEEN_SECONDS
            keep_seen(store, desk)
        shown = desk.clock.now()
        if shown >= self._next_mark or store.failing:  # by the time that is shown: a jump of the clock is remembered at once
            mark_time(store, shown)
            keep_tidy(store, shown)
            self._next_mark = shown + _MARK_SECONDS * MICROSECONDS

    def _stop(self) -> None:
        """Wipe every key and end: a module that failed its self-test computes for nobody."""
        logger.critical("the cryptographic module failed its self-test (%s): the server stops", self._desk.module.fault())
        try:
            close_house(self._desk)
        finally:
            end(self._listeners)

    def _look_at_clock(self) -> None:
        behind = self._desk.clock.behind() / 1e6
        if behind > _NOTICEABLE and not self._said_behind:
            logger.warning(
                "the machine's clock was set back %.0f s: time goes on from the latest shown, and no expiry is put off", behind
            )
        self._said_behind = behind > _NOTICEABLE
