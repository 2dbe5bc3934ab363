"""What an object says about itself without any key: which key and version it depends on, its kind and its sizes.

Nothing here is authenticated until the object is opened: it serves to sort, count and plan, not to decide whom to trust.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from keyclave_client.errors import Malformed, Undecipherable
from keyclave_client.local import header as wire
from keyclave_client.local.landing import open_source


@dataclass(frozen=True, slots=True)
class Inspection:
    """`key` and `version` are None when the wrapped key is not Keyclave's; `chunk_size` is None for the bytes form."""

    key: str | None
    version: int | None
    kind: str
    chunk_size: int | None
    header_size: int
    size: int
    plaintext_size: int | None


def inspect(blob: bytes | bytearray | memoryview) -> Inspection:
    """Return what an object, or its header alone, says; `Malformed` if it is none. A header alone has no `plaintext_size`."""
    return _inspect(blob, len(blob))


def inspect_file(path: str | os.PathLike[str]) -> Inspection:
    """Return what the file at `path` says, reading its header only."""
    with open_source(path, follow_symlinks=False) as file:
        return _inspect(read_head(file.fileno()), os.fstat(file.fileno()).st_size)


def read_head(descriptor: int) -> bytes:
    """Return the header of an open file, and no more; what is no object gives fewer bytes."""
    head = os.pread(descriptor, wire.PRELUDE, 0)
    try:
        return os.pread(descriptor, wire.size_from(head), 0)
    except Undecipherable:
        return head


def _inspect(head: bytes | bytearray | memoryview, size: int) -> Inspection:
    try:
        header = wire.parse(head)
        body = size - header.size
        plaintext = wire.plaintext_size(header, body) if body else None
    except Undecipherable:
        raise Malformed("this is not a whole object encrypted by Keyclave", "objects start with the letters KCL") from None
    by = wire.wrapped_by(header.wrapped)
    return Inspection(
        key=by.key if by else None,
        version=by.version if by else None,
        kind="bytes" if header.kind == wire.BYTES else "stream",
        chunk_size=1 << header.chunk if header.chunk else None,
        header_size=header.size,
        size=size,
        plaintext_size=plaintext,
    )
