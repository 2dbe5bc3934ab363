"""Making and opening envelopes with a key version: the step where keyring, envelope and crypto meet.

What is sealed is a part of a message: its message key and commitment are derived once, and its parts are told apart by their
numbers, which are their IVs, so uniqueness is counted, not hoped for. What one caller has encrypted in requests that wait for the
same commit, batches among them, is one message for each key version (decision 11): a caller who waits for each answer before the
next request gets a message for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import count, islice

from keyclave.core.errors import Sealed, Undecipherable
from keyclave.crypto.arena import Buffer
from keyclave.crypto.module import CryptoModule, MessageSealer
from keyclave.crypto.suites import Purpose
from keyclave.envelope.header import ID, Header, authenticated, before_iv, key_info, parse, part_iv, prefix, with_length
from keyclave.operations.answers import AnswerForm
from keyclave.operations.attempt import Attempt
from keyclave.operations.keyring import Handle, LoadedKey


class Message:
    """A message that is being made, part by part."""

    __slots__ = ("_before", "_contexts", "_envelopes", "_head", "_ivs", "_plaintexts", "_sealer", "form")

    def __init__(self, module: CryptoModule, handle: Handle, kind: int) -> None:
        message_id = module.random(ID)
        self._sealer: MessageSealer = module.message_sealer(handle.slot, key_info(kind, handle.raw_id, handle.number, message_id))
        self._head = prefix(kind, handle.raw_id, handle.number, message_id) + self._sealer.commitment
        self._before = before_iv(self._head)
        self._ivs = map(part_iv, count(1))  # no two threads get the same, for counting is one step of the interpreter
        self.form: AnswerForm | None = None  # how the answers are written that hold its parts, once there was one
        self._plaintexts: list[bytes] = []  # that wait, and what was made of those before them; for the thread of the loop alone
        self._contexts: list[bytes] = []
        self._envelopes: list[bytes] = []

    def seal(self, plaintext: Buffer, context: bytes) -> bytes:
        """Return the envelope of one part."""
        iv = next(self._ivs)
        return self._head + iv + self._sealer.seal(iv, plaintext, self._before + iv + with_length(context))

    def wait(self, plaintext: bytes, context: bytes) -> int:
        """Take a part that is sealed with others, when the first of them is asked for; return what to ask for it by."""
        self._plaintexts.append(plaintext)
        self._contexts.append(context)
        return len(self._envelopes) + len(self._plaintexts) - 1

    def envelope(self, number: int) -> bytes:
        """Return the envelope of a part that waited."""
        if number >= len(self._envelopes):
            self._seal_waiting()
        return self._envelopes[number]

    def end(self) -> None:
        """Let go of the message key, once it has sealed what waits; if it cannot, whoever asks for it is told."""
        try:
            with suppress(Exception):
                self._seal_waiting()
        finally:
            self._sealer = _LET_GO

    def _seal_waiting(self) -> None:
        self._envelopes += self.seal_all(self._plaintexts, self._contexts)
        self._plaintexts.clear()
        self._contexts.clear()

    def seal_all(self, plaintexts: Sequence[bytes], contexts: Sequence[bytes]) -> list[bytes]:
        """Return the envelopes of many parts."""
        head, before = self._head, self._before
        ivs = list(islice(self._ivs, len(plaintexts)))
        tails = {context: with_length(context) for context in set(contexts)}
        if len(tails) == 1:  # as in most batches
            (tail,) = tails.values()
            aads = [before + iv + tail for iv in ivs]
        else:
            aads = [before + iv + tails[context] for iv, context in zip(ivs, contexts, strict=True)]
        return [head + iv + part for iv, part in zip(ivs, self._sealer.seal_all(ivs, plaintexts, aads), strict=True)]


class _LetGo:
    """Stands where a sealer was: whoever comes with a further part, from another thread, finds the server sealed."""

    commitment = b""

    def seal(self, _iv: bytes, _plaintext: Buffer, _aad: bytes) -> bytes:
        """Refuse."""
        raise Sealed

    def seal_all(self, _ivs: Sequence[bytes], _plaintexts: Sequence[Buffer], _aads: Sequence[bytes]) -> list[bytes]:
        """Refuse."""
        raise Sealed


_LET_GO = _LetGo()

Messages = dict[tuple[str, Handle, int], Message]
"""Those of requests that wait for their commit, by credential, key version and kind."""


class Sealing:
    """Seals what one attempt has to seal, as parts of its caller's messages."""

    __slots__ = ("_attempt", "_messages", "_module")

    def __init__(self, attempt: Attempt, messages: Messages) -> None:
        self._attempt = attempt
        self._messages = messages
        self._module = attempt.desk.module

    def seal(self, handle: Handle, kind: int, plaintext: Buffer, context: bytes) -> bytes:
        """Return the envelope of `plaintext` under the key version."""
        return self.message(handle, kind).seal(plaintext, context)

    def seal_all(self, handle: Handle, kind: int, plaintexts: Sequence[bytes], contexts: Sequence[bytes]) -> list[bytes]:
        """Return the envelopes of many plaintexts under one key version."""
        return self.message(handle, kind).seal_all(plaintexts, contexts)

    def message(self, handle: Handle, kind: int) -> Message:
        """Return the message that what is sealed now is part of; each call is for one use, or one batch of them."""
        if handle.used > handle.accounted:
            account(self._attempt, handle)
        asked = self._attempt.caller.id, handle, kind
        found = self._messages.get(asked)
        if found is None:
            found = self._messages[asked] = Message(self._module, handle, kind)
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
