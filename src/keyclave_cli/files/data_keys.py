"""Data keys fetched several at a time, so that a folder of small files does not wait for the server once for each of them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping

from keyclave_client import Client, ServerKeys
from keyclave_client.errors import KeyclaveError
from keyclave_client.local.datakey import DataKey

AT_ONCE = 64  # data keys of one request; as many wait in memory at most


class AheadOfTime:
    """A key of a server, as a source that gets `count` data keys in batches. All of them are for one encryption context."""

    def __init__(self, client: Client, key: str, count: int) -> None:
        self._client = client
        self._key = key
        self._single = ServerKeys(client, key)
        self._left = count
        self._ready: deque[DataKey] = deque()
        self._lock = threading.Lock()

    def fresh(self, context: Mapping[str, str]) -> DataKey:
        """Return a data key that nobody has used."""
        with self._lock:
            if not self._ready:
                self._fetch(context)
            return self._ready.popleft()

    def _fetch(self, context: Mapping[str, str]) -> None:
        count = max(1, min(AT_ONCE, self._left))
        self._left -= count
        answers = self._client.batch("data_key", self._key, [{"context": context}] * count)
        for answer in answers:
            if isinstance(answer, KeyclaveError):
                raise answer
            self._ready.append(DataKey(bytearray(answer.plaintext or b""), answer.wrapped))

    def open(self, wrapped: bytes, context: Mapping[str, str]) -> DataKey:
        """Have the server open a wrapped data key."""
        return self._single.open(wrapped, context)

    def rewrap(self, wrapped: bytes, context: Mapping[str, str], to_key: str | None) -> bytes:
        """Have the server rewrap a data key."""
        return self._single.rewrap(wrapped, context, to_key)
