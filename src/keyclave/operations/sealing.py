"""Making and opening envelopes with a key version: the step where keyring, envelope and crypto meet.

What is sealed is a part of a message. What one caller has encrypted in requests that wait for the same commit, batches among
them, is one message for each key version (decision 11): a caller who waits for each answer before the next request gets a message
for each.
"""

from __future__ import annotations

from collections.abc import Sequence

from keyclave.core.errors import Undecipherable
from keyclave.crypto.arena import Buffer
from keyclave.crypto.suites import Purpose
from keyclave.envelope.header import KIND_WRAPPED_KEY, Header, authenticated, key_info, parse
from keyclave.operations.attempt import Attempt
from keyclave.operations.keyring import Handle, LoadedKey
from keyclave.operations.messages import KeyMessage, Message


def seal(attempt: Attempt, handle: Handle, kind: int, plaintext: Buffer, context: bytes) -> bytes:
    """Return the envelope of `plaintext` under the key version."""
    return message_of(attempt, handle, kind).seal(plaintext, context)


def seal_all(attempt: Attempt, handle: Handle, kind: int, plaintexts: Sequence[bytes], contexts: Sequence[bytes]) -> list[bytes]:
    """Return the envelopes of many plaintexts under one key version."""
    return message_of(attempt, handle, kind).seal_all(plaintexts, contexts)


def message_of(attempt: Attempt, handle: Handle, kind: int) -> Message:
    """Return the message that what is sealed now is part of; each call is for one use, or one batch of them."""
    if handle.used > handle.accounted:
        account(attempt, handle)
    desk = attempt.desk
    asked = attempt.caller.id, handle, kind
    found = desk.messages.get(asked)
    if found is None:
        made = KeyMessage if kind == KIND_WRAPPED_KEY else Message
        found = desk.messages[asked] = made(desk.module, handle, kind)
    return found


def key_message_of(attempt: Attempt, handle: Handle) -> KeyMessage:
    """Return the message that a wrapped key is part of, as `message_of`."""
    message = message_of(attempt, handle, KIND_WRAPPED_KEY)
    assert isinstance(message, KeyMessage)  # noqa: S101 - there are no others of this kind
    return message


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
