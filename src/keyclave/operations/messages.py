"""Messages that are being made: their parts, some of which wait so that they are sealed together (decision 11).

Their message key and commitment are derived once, and their parts are told apart by their numbers, which are their IVs, so
uniqueness is counted, not hoped for. What waits is sealed when the first answer that holds some of it is written, while the disk
is busy with the commit of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate, count, islice

from keyclave.core.errors import Sealed
from keyclave.crypto.arena import LARGEST, Buffer
from keyclave.crypto.disclosure import disclose_part, lend
from keyclave.crypto.module import CryptoModule, MessageSealer
from keyclave.envelope.header import ID, before_iv, key_info, part_iv, prefix, with_length
from keyclave.operations.keyring import Handle

LONGEST_KEY = 1024  # bytes of a data key
_AT_ONCE = LARGEST // LONGEST_KEY  # data keys in one piece of locked memory


class Message:
    """A message that is being made, part by part."""

    __slots__ = ("_before", "_contexts", "_envelopes", "_head", "_ivs", "_plaintexts", "_sealer")

    def __init__(self, module: CryptoModule, handle: Handle, kind: int) -> None:
        message_id = module.random(ID)
        self._sealer: MessageSealer = module.message_sealer(handle.slot, key_info(kind, handle.raw_id, handle.number, message_id))
        self._head = prefix(kind, handle.raw_id, handle.number, message_id) + self._sealer.commitment
        self._before = before_iv(self._head)
        self._ivs = map(part_iv, count(1))  # no two threads get the same, for counting is one step of the interpreter
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

    def seal_all(self, plaintexts: Sequence[Buffer], contexts: Sequence[bytes]) -> list[bytes]:
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


class KeyMessage(Message):
    """A message whose parts are keys. Data keys that wait are drawn when the first of them is asked for."""

    __slots__ = ("_keys", "_module", "_waiting")

    def __init__(self, module: CryptoModule, handle: Handle, kind: int) -> None:
        super().__init__(module, handle, kind)
        self._module = module
        self._waiting: list[tuple[int, bool, bytes]] = []  # that are not drawn yet, and what was made of those before them
        self._keys: list[tuple[bytes, bytes]] = []

    def wait_for_key(self, length: int, context: bytes, *, plain: bool) -> int:
        """Take a data key of so many bytes that is to be made; return what to ask for it by. `plain`: it leaves unwrapped too."""
        self._waiting.append((length, plain, context))
        return len(self._keys) + len(self._waiting) - 1

    def key(self, number: int) -> tuple[bytes, bytes]:
        """Return the envelope of a key that waited, and itself in base64: empty unless it was asked for."""
        if number >= len(self._keys):
            self._seal_waiting()
        return self._keys[number]

    def _seal_waiting(self) -> None:
        while self._waiting:
            some = self._waiting[:_AT_ONCE]
            self._keys += self._drawn(some)
            del self._waiting[: len(some)]

    def _drawn(self, asked: Sequence[tuple[int, bool, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return data keys, wrapped and plain. They lie side by side in locked memory meanwhile."""
        ends = list(accumulate(length for length, _, _ in asked))
        places = [slice(end - length, end) for end, (length, _, _) in zip(ends, asked, strict=True)]
        with self._module.random_slot(ends[-1]) as slot:
            whole = lend(slot)
            envelopes = self.seal_all([whole[place] for place in places], [context for _, _, context in asked])
            plain = [disclose_part(slot, place) if leaves else b"" for place, (_, leaves, _) in zip(places, asked, strict=True)]
        return list(zip(envelopes, plain, strict=True))


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
