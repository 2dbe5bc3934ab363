"""Encrypting bytes, streams and files on this machine, under data keys that a Keyclave key wraps.

Small messages share a data key within the limits of a cache; every stream and file has one of its own unless asked otherwise.
Each object has its own body key in any case, and says by its header which key version it depends on, so `inspect` and
`rewrap` need no plaintext.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping

from keyclave_client.canonical import canonical_map
from keyclave_client.errors import KeyclaveError, Malformed, TooLarge, Undecipherable
from keyclave_client.local import header as wire
from keyclave_client.local.body import new_body, open_body, open_bytes, seal_bytes
from keyclave_client.local.cache import DEFAULT_CACHE, NO_CACHE, UNKNOWN_SIZE, CacheLimits, DataKeyCache
from keyclave_client.local.datakey import DataKeySource
from keyclave_client.local.inspection import Inspection, inspect, inspect_file, read_head
from keyclave_client.local.landing import landing, open_source
from keyclave_client.local.stream import Filler, Readable, Writable, filler, open_chunks, seal_chunks, write_all

Bytes = bytes | bytearray | memoryview
Context = Mapping[str, str]
Path = str | os.PathLike[str]
Progress = Callable[[int], None]  # told the plaintext bytes of each chunk that is done

CHUNK = 20  # log2: 1 MiB, where the cipher runs at full speed and three buffers are still small
_NOTHING: Context = {}


class Encryptor:
    """Encrypts and decrypts under one key of one source. Safe to share between threads.

    `cache` bounds the data keys kept for small messages, `file_cache` those for streams and files (none by default). The
    encryption context is authenticated and not stored: what was encrypted with one opens only with the same one.
    """

    inspect = staticmethod(inspect)
    inspect_file = staticmethod(inspect_file)

    def __init__(self, source: DataKeySource, *, cache: CacheLimits = DEFAULT_CACHE, file_cache: CacheLimits = NO_CACHE) -> None:
        self._source = source
        self._messages = DataKeyCache(source, cache)
        self._files = DataKeyCache(source, file_cache)

    def __repr__(self) -> str:
        return f"Encryptor({self._source!r})"

    def clear(self) -> None:
        """Drop every data key that is kept."""
        self._messages.clear()
        self._files.clear()

    def encrypt(self, plaintext: Bytes, context: Context | None = None) -> bytes:
        """Return `plaintext` (up to 256 MiB) as one object of the bytes form."""
        plaintext = _as_bytes(plaintext)
        size = len(plaintext)
        if size > wire.BYTES_LIMIT:
            raise TooLarge(f"{size} bytes are more than one object of the bytes form holds", "use encrypt_stream or encrypt_file")
        encoded = canonical_map(context)
        key = self._messages.fresh(encoded, context or _NOTHING, size)
        return seal_bytes(key, os.urandom(wire.MESSAGE_ID), plaintext, encoded)

    def decrypt(self, blob: Bytes, context: Context | None = None) -> bytes:
        """Return the plaintext of an object of either form; `Undecipherable` whatever is wrong with it."""
        blob = _as_bytes(blob)
        header = wire.parse(blob)
        if header.kind == wire.STREAM:
            return b"".join(self.decrypt_chunks(io.BytesIO(blob), context))
        encoded = canonical_map(context)
        key = self._messages.open(header.wrapped, encoded, context or _NOTHING)
        return open_bytes(header, key, memoryview(blob)[header.size :], encoded)

    def encrypt_chunks(self, src: Readable, context: Context | None = None, *, chunk: int = CHUNK) -> Iterator[bytes]:
        """Yield a stream object piece by piece, header first, for instance as the body of an upload. `chunk`: log2 of size."""
        head, chunks = self._sealing(filler(src), context, chunk, UNKNOWN_SIZE)
        yield head
        for sealed in chunks:
            yield bytes(sealed)

    def decrypt_chunks(self, src: Readable, context: Context | None = None) -> Iterator[bytes]:
        """Yield the plaintext chunk by chunk, each authenticated before it is yielded.

        THE DATA IS COMPLETE ONLY WHEN THE ITERATION ENDS WITHOUT ERROR: what came before an `Undecipherable` is genuine but
        cut short.
        """
        for plain in self._opening(filler(src), context):
            yield bytes(plain)

    def encrypt_stream(
        self, src: Readable, dst: Writable, context: Context | None = None, *, chunk: int = CHUNK,
        progress: Progress | None = None,
    ) -> int:  # fmt: skip
        """Encrypt everything `src` gives into `dst`, in constant memory; return the plaintext bytes."""
        return self._encrypt(src, dst, context, chunk, UNKNOWN_SIZE, progress)

    def decrypt_stream(
        self, src: Readable, dst: Writable, context: Context | None = None, *, progress: Progress | None = None
    ) -> int:
        """Decrypt `src` into `dst`, in constant memory; return the plaintext bytes.

        Only authenticated chunks are written, but they are the whole data only if this returns: on an error discard what
        `dst` got.
        """
        return _copy(self._opening(filler(src), context), dst, 0, progress)

    def encrypt_file(
        self, path: Path, dest: Path, context: Context | None = None, *, overwrite: bool = False, follow_symlinks: bool = False,
        progress: Progress | None = None,
    ) -> int:  # fmt: skip
        """Encrypt a file into `dest` (which may be the same path with `overwrite`); return the plaintext bytes.

        `dest` appears whole and durable, with the permission bits of the source, or not at all.
        """
        with open_source(path, follow_symlinks=follow_symlinks) as src:
            before = os.fstat(src.fileno())
            with landing(dest, before.st_mode, overwrite=overwrite) as dst:
                count = self._encrypt(src, dst, context, _chunk_for(before.st_size), before.st_size, progress)
                _unchanged(before, os.fstat(src.fileno()), path)
            return count

    def decrypt_file(
        self, path: Path, dest: Path, context: Context | None = None, *, overwrite: bool = False, follow_symlinks: bool = False,
        progress: Progress | None = None,
    ) -> int:  # fmt: skip
        """Decrypt a file into `dest`; return the plaintext bytes. A decryption that fails or is killed leaves nothing behind."""
        with open_source(path, follow_symlinks=follow_symlinks) as src:
            before = os.fstat(src.fileno())
            with landing(dest, before.st_mode, overwrite=overwrite) as dst:
                count = self.decrypt_stream(src, dst, context, progress=progress)
                _unchanged(before, os.fstat(src.fileno()), path)
            return count

    def rewrap(self, blob: Bytes, context: Context | None = None, *, to_key: str | None = None) -> bytes:
        """Return the same object (or header) with its data key wrapped by the key's current version, or by `to_key`."""
        header = wire.parse(blob)
        wrapped = self._source.rewrap(header.wrapped, context or _NOTHING, to_key)
        foreign = wire.wrapped_by(header.wrapped) is not None and wire.wrapped_by(wrapped) is None
        if foreign or not 0 < len(wrapped) <= wire.WRAPPED_LIMIT:
            raise KeyclaveError("what the server sent is no wrapped data key", "the object stays as it is; tell its operators")
        return header._replace(wrapped=wrapped).encode() + bytes(memoryview(blob)[header.size :])

    def rewrap_file(self, path: Path, context: Context | None = None, *, to_key: str | None = None) -> Inspection:
        """Rewrap a file in place, without reading its body; return what it says afterwards.

        One write of a few hundred bytes at the start of the file, within its first 512-byte sector for keys that Keyclave
        wraps, so a crash leaves the old or the new wrapped key, and both open. A file of another maker whose header is longer
        is refused, not risked.
        """
        with open_source(path, follow_symlinks=False, writable=True) as file:
            old = read_head(file.fileno())
            new = self.rewrap(old, context, to_key=to_key)
            if len(new) != len(old) or len(new) > _SECTOR:
                raise Malformed("the rewrapped key does not fit where the old one stands", "decrypt and encrypt the file again")
            if read_head(file.fileno()) != old:
                raise Malformed("the file changed while it was rewrapped", "do it again")
            if os.pwrite(file.fileno(), new, 0) != len(new):
                os.pwrite(file.fileno(), old, 0)
                raise OSError("the header was not written whole; the old one stands again")
            os.fsync(file.fileno())
        return inspect_file(path)

    def _encrypt(
        self, src: Readable, dst: Writable, context: Context | None, chunk: int, size: float, progress: Progress | None
    ) -> int:
        head, chunks = self._sealing(filler(src), context, chunk, size)
        write_all(dst, head)
        return _copy(chunks, dst, wire.TAG, progress)

    def _sealing(self, fill: Filler, context: Context | None, chunk: int, size: float) -> tuple[bytes, Iterator[memoryview]]:
        """Return the header and the sealed chunks; `size` is that of the plaintext, so that a kept data key counts it."""
        if not wire.LEAST_CHUNK <= chunk <= wire.LARGEST_CHUNK:
            raise Malformed(f"the log2 of the chunk size is {wire.LEAST_CHUNK} to {wire.LARGEST_CHUNK}", "leave it out for 1 MiB")
        encoded = canonical_map(context)
        key = self._files.fresh(encoded, context or _NOTHING, size)
        header, body = new_body(key, wire.STREAM, chunk, os.urandom(wire.MESSAGE_ID), encoded)
        return header.encode(), seal_chunks(body, chunk, fill)

    def _opening(self, fill: Filler, context: Context | None) -> Iterator[memoryview]:
        header = _read_header(fill)
        encoded = canonical_map(context)
        key = self._files.open(header.wrapped, encoded, context or _NOTHING)
        if header.kind == wire.STREAM:
            return open_chunks(open_body(header, key, encoded), header.chunk, fill)
        sealed = _read_whole(fill, wire.BYTES_LIMIT + wire.TAG)
        return iter((memoryview(open_bytes(header, key, sealed, encoded)),))


_SECTOR = 512


def _as_bytes(data: Bytes) -> bytes | memoryview:
    """Return a view that counts in bytes, whatever the caller's counts in."""
    return data if isinstance(data, bytes) else memoryview(data).cast("B")


def _read_header(fill: Filler) -> wire.Header:
    head = bytearray(wire.PRELUDE)
    if fill(memoryview(head)) < wire.PRELUDE:
        raise Undecipherable
    rest = bytearray(wire.size_from(head) - wire.PRELUDE)
    if fill(memoryview(rest)) < len(rest):
        raise Undecipherable
    return wire.parse(head + rest)


def _read_whole(fill: Filler, limit: int) -> bytearray:
    """Return the rest of a source of at most `limit` bytes: memory grows with what is there, not with what a header claims."""
    whole = bytearray()
    piece = bytearray(1 << CHUNK)
    while got := fill(memoryview(piece)):
        whole += memoryview(piece)[:got]
        if len(whole) > limit:
            raise Undecipherable
    return whole


def _copy(chunks: Iterator[memoryview], dst: Writable, overhead: int, progress: Progress | None) -> int:
    count = 0
    for piece in chunks:
        write_all(dst, piece)
        count += len(piece) - overhead
        if progress is not None:
            progress(len(piece) - overhead)
    return count


def _chunk_for(size: int) -> int:
    """Return the smallest chunk that holds a small file whole, up to the usual one: small files need no large buffers."""
    return min(CHUNK, max(wire.LEAST_CHUNK, (size - 1).bit_length()))


def _unchanged(before: os.stat_result, after: os.stat_result, path: Path) -> None:
    """Refuse a file that was written to meanwhile: the copy would be of no moment, and the original may be about to go."""
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise Malformed(f"{os.fspath(path)} changed while it was read", "do it again when nothing writes to it")
