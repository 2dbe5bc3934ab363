"""What the supervisor and its workers say to each other: small notes over a socket pair of packets, sometimes with a file
descriptor. Nothing secret is ever in a note: shares and root keys go from worker to worker over a line of their own.

A line is one end of a fresh socket pair whose other end another worker got. The supervisor makes it, hands both ends over and
closes its copies, so it never reads what is said there.
"""

from __future__ import annotations

import socket
from enum import StrEnum

import msgspec

_LARGEST = 4096  # bytes of a note


class Word(StrEnum):
    """What a note says. From a worker:"""

    READY = "ready"  # it could serve; `open` tells whether it holds the root's key
    BEAT = "beat"  # its loop turns
    OFFER = "offer"  # a share was brought to it: it wants a line to whoever collects them
    PROGRESS = "progress"  # the collector has `received` shares; passed on to all
    OPENED = "opened"  # it was unsealed, and that is recorded: open the others
    TAKEN = "taken"  # it took the root's key
    CLOSE = "close"  # it was sealed: close the others
    CLOSED = "closed"  # it holds no key since the closing number `epoch`
    DRAIN = "drain"  # it was told to say that it is not ready, or with `open` that it is again; passed on to all
    # from the supervisor:
    GO = "go"  # serve
    COLLECT = "collect"  # a line: the share that comes over it is to be collected
    GIVE = "give"  # a line: the root's key is to be given over it
    TAKE = "take"  # a line: the root's key comes over it
    ALL_OPEN = "all-open"  # the answer to OPENED
    ALL_CLOSED = "all-closed"  # the answer to CLOSE


class Note(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """One note. `epoch` counts the closings: what was handed over before one is void after it."""

    word: Word
    epoch: int = 0
    open: bool = False
    received: int = 0


_DECODER = msgspec.json.Decoder(Note)


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected ends. Each packet arrives whole or not at all."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends


def send(channel: socket.socket, note: Note, *lines: socket.socket) -> bool:
    """Send a note, with lines; return False if the other side is gone or has not listened for long."""
    data = msgspec.json.encode(note)
    try:
        socket.send_fds(channel, [data], [line.fileno() for line in lines])
    except OSError:
        return False
    return True


def receive(channel: socket.socket) -> tuple[Note, list[socket.socket]] | None:
    """Return the next note with its lines, or None where the other side is gone. `BlockingIOError` where there is none yet."""
    try:
        data, descriptors, flags, _ = socket.recv_fds(channel, _LARGEST, 1, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return None
    lines = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    if not data:
        return None
    if flags & socket.MSG_TRUNC:
        raise ValueError("a note is too long")
    return _DECODER.decode(data), lines
