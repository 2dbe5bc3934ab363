"""The body of a stream: chunks sealed one by one, so that data may be larger than memory and no unauthenticated byte gets out.

This is the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár, 2015): the nonce counts the chunks and marks the last
one, so chunks that are missing, doubled, exchanged or added, at the end too, do not open. Buffers are made once for an object
and reused.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from keyclave_client.errors import Malformed, TooLarge, Undecipherable
from keyclave_client.local.body import Body
from keyclave_client.local.header import TAG

CHUNKS = 1 << 32  # the counter's range
Filler = Callable[[memoryview], int]


class Readable(Protocol):
    """A binary source. It may give less than it was asked for; it gives nothing only at its end."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""
        ...


class Writable(Protocol):
    """A binary sink. It has taken the bytes when `write` returns: the buffer they came in is used again."""

    def write(self, data: Any, /) -> Any:
        """Take bytes; an unbuffered sink returns how many it took."""
        ...


def seal_chunks(body: Body, chunk: int, fill: Filler) -> Iterator[memoryview]:
    """Yield the sealed chunks of what `fill` gives. Each view is overwritten by the next one."""
    current, ahead = memoryview(bytearray(1 << chunk)), memoryview(bytearray(1 << chunk))
    sealed = memoryview(bytearray((1 << chunk) + TAG))
    try:
        have = fill(current)
        for counter in range(CHUNKS):
            # a chunk is the last one when nothing follows it, which only reading on can tell
            following = fill(ahead) if have == len(current) else 0
            body.seal_into(counter, not following, current[:have], sealed[: have + TAG])
            yield sealed[: have + TAG]
            if not following:
                return
            current, ahead, have = ahead, current, following
        raise TooLarge("the stream is longer than its chunks can be counted", "use a larger chunk size")
    finally:
        _wipe(current)
        _wipe(ahead)


def open_chunks(body: Body, chunk: int, fill: Filler) -> Iterator[memoryview]:
    """Yield the opened chunks of what `fill` gives, each authenticated before it is seen. Each view is overwritten by the next.

    The data is complete only when the iteration ends by itself; anything wrong raises `Undecipherable`.
    """
    current, ahead = memoryview(bytearray((1 << chunk) + TAG)), memoryview(bytearray((1 << chunk) + TAG))
    plain = memoryview(bytearray(1 << chunk))
    try:
        have = fill(current)
        for counter in range(CHUNKS):
            following = fill(ahead) if have == len(current) else 0
            # an empty last chunk stands only for empty data: everything has one encoding
            if have < TAG or (have == TAG and counter):
                raise Undecipherable
            body.open_into(counter, not following, current[:have], plain[: have - TAG])
            yield plain[: have - TAG]
            if not following:
                return
            current, ahead, have = ahead, current, following
        raise Undecipherable
    finally:
        _wipe(plain)


def filler(source: Readable) -> Filler:
    """Return a function that fills a buffer from `source` as far as it goes, and says how far."""
    read_into = getattr(source, "readinto", None) or _by_copy(source)

    def fill(buffer: memoryview) -> int:
        have = 0
        while have < len(buffer):
            got = read_into(buffer[have:])
            if got is None:
                raise Malformed("the source has nothing to give yet", "use a blocking source")
            if not got:
                break
            have += got
        return have

    return fill


def _by_copy(source: Readable) -> Filler:
    def read_into(buffer: memoryview) -> int:
        got = source.read(len(buffer))
        if not isinstance(got, bytes | bytearray | memoryview) or len(got) > len(buffer):
            raise Malformed("the source does not give bytes as asked", "open files in binary mode")
        buffer[: len(got)] = got
        return len(got)

    return read_into


def write_all(sink: Writable, data: bytes | memoryview) -> None:
    """Write everything, also to an unbuffered sink that takes less at a time."""
    view = memoryview(data)
    while view.nbytes:
        took = sink.write(view)
        if not took and isinstance(sink, io.RawIOBase):
            raise Malformed("the destination takes nothing", "use a blocking one")  # None here means: none of it was written
        # all others take everything or raise; some of them say nothing
        view = view[took if isinstance(took, int) and took > 0 else view.nbytes :]


def _wipe(buffer: memoryview) -> None:
    buffer[:] = bytes(len(buffer))
