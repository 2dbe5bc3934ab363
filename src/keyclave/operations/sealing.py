"""Making and opening envelopes with a key version: the step where keyring, envelope and crypto meet.

A `Sealing` serves one attempt. A single message gets a message id and a random IV of its own. The items of a batch
(`BatchSealing`) are parts of one message: they share the message key, each under its own number as IV, so uniqueness is counted,
not hoped for.
"""

from __future__ import annotations

from collections.abc import Sequence

from keyclave.core.errors import Undecipherable
from keyclave.crypto.arena import Buffer
from keyclave.crypto.module import MessageSealer
from keyclave.crypto.suites import Purpose
from keyclave.envelope.header import ID, IV, Header, authenticated, authenticated_all, key_info, parse, prefix
from keyclave.operations.attempt import Attempt
from keyclave.operations.keyring import Handle, LoadedKey


class Sealing:
    """Seals the messages of one attempt."""

    __slots__ = ("_attempt", "_module")

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._module = attempt.desk.module

    def seal(self, handle: Handle, kind: int, plaintext: Buffer, context: bytes) -> bytes:
        """Return the envelope of `plaintext` under the key version: a message of its own."""
        fresh = self._module.random(ID + IV)
        sealer, head = self._new(handle, kind, fresh[:ID])
        iv = fresh[ID:]
        header = head + iv
        return header + sealer.seal(iv, plaintext, authenticated(header, context))

    def _new(self, handle: Handle, kind: int, message_id: bytes) -> tuple[MessageSealer, bytes]:
        if handle.used > handle.accounted:
            account(self._attempt, handle)
        key_id, number = handle.raw_id, handle.number
        sealer = self._module.message_sealer(handle.slot, key_info(kind, key_id, number, message_id))
        return sealer, prefix(kind, key_id, number, message_id) + sealer.commitment


class BatchSealing(Sealing):
    """Seals the items of a batch: parts of one message for each key version and kind, told apart by their numbers."""

    __slots__ = ("_number", "_sealers")

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(attempt)
        self._sealers: dict[tuple[Handle, int], tuple[MessageSealer, bytes]] = {}
        self._number = 0

    def seal(self, handle: Handle, kind: int, plaintext: Buffer, context: bytes) -> bytes:
        """Return the envelope of one item."""
        sealer, head = self._shared(handle, kind)
        self._number += 1
        iv = self._number.to_bytes(IV, "big")
        header = head + iv
        return header + sealer.seal(iv, plaintext, authenticated(header, context))

    def seal_all(self, handle: Handle, kind: int, plaintexts: Sequence[bytes], contexts: Sequence[bytes]) -> list[bytes]:
        """Return the envelopes of many items under one key version."""
        sealer, head = self._shared(handle, kind)
        first = self._number + 1
        self._number += len(plaintexts)
        ivs = [number.to_bytes(IV, "big") for number in range(first, self._number + 1)]
        sealed = sealer.seal_all(ivs, plaintexts, authenticated_all(head, ivs, contexts))
        return [head + iv + part for iv, part in zip(ivs, sealed, strict=True)]

    def _shared(self, handle: Handle, kind: int) -> tuple[MessageSealer, bytes]:
        found = self._sealers.get((handle, kind))
        if found is None:
            found = self._sealers[handle, kind] = self._new(handle, kind, self._module.random(ID))
        return found


def account(attempt: Attempt, handle: Handle) -> None:
    """See to it that the uses of this version are accounted for in the store before this one's answer leaves."""
    if handle.used > handle.accounted:
        handle.accounted += attempt.desk.block
        if attempt.reservations is None:
            attempt.reservations = []
        attempt.reservations.append((handle.key_id, handle.number))


def find_version(attempt: Attempt, key: LoadedKey, blob: bytes) -> tuple[Handle, Header, memoryview]:
    """Read an envelope that should be of `key`, and return the version that opens it.

    An envelope of another key, tenant or version that never was is `Undecipherable`, like one with a flipped bit.
    """
    header, sealed = parse(blob)
    number = header.version
    handle = key.handles.get(number)
    if handle is None:
        if key.key.version(number) is None:
            raise Undecipherable
        handle = attempt.desk.keyring.handle(key, number)
    if header.key_id != handle.raw_id:
        raise Undecipherable
    return attempt.desk.keyring.processing(key, Purpose.ENCRYPT, number), header, sealed


def open_envelope(attempt: Attempt, handle: Handle, header: Header, sealed: memoryview, context: bytes) -> bytes:
    """Return the plaintext."""
    info = key_info(header.kind, header.key_id, header.version, header.message_id)
    aad = authenticated(header.raw, context)
    return attempt.desk.module.open_message(handle.slot, info, header.commitment, header.iv, sealed, aad)
