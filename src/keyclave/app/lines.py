"""What goes over a line between two workers: a custodian's share, its outcome, and the root's key.

A key is received into locked memory straight from the socket and sent straight out of it: no copy of it comes to lie on Python's
heap. Everything on a line fits a packet, so nothing is sent or received by halves.
"""

from __future__ import annotations

import socket
import struct

import msgspec

from keyclave.core import errors
from keyclave.core.errors import KeyclaveError, LimitReached, Unavailable
from keyclave.crypto.arena import Slot
from keyclave.operations.siblings import Taken

_HEAD = struct.Struct(">QH")  # epoch, length of the key
LONGEST_SHARE = 512
_LONGEST_OUTCOME = 4096
_PATIENCE = 2.0  # seconds for the second of two packets that are sent together
_MIRRORED: dict[str, type[KeyclaveError]] = {
    one.code: one for one in (errors.Malformed, errors.TooLarge, errors.WrongState, errors.Broken)
}


class _Outcome(msgspec.Struct, omit_defaults=True):
    received: int = 0
    share: int = 0
    root: bool = False
    looked_at: bool = True
    code: str = ""
    detail: str = ""
    hint: str = ""
    wait: float = 1.0


def lost_line() -> Unavailable:
    """Return the answer when whoever collects the shares has gone: those it had are gone with it."""
    return Unavailable("the process that collects the shares has gone", "give all shares again, from the first")


def send_share(line: socket.socket, share: str) -> None:
    """Send a share to the collector."""
    line.send(share.encode())


def receive_share(line: socket.socket) -> str:
    """Return the share, or an empty text where the other side is gone."""
    data = bytearray(LONGEST_SHARE)
    share = data[: line.recv_into(data)].decode("utf-8", "replace")
    data[:] = bytes(LONGEST_SHARE)
    return share


def send_outcome(line: socket.socket, taken: Taken, epoch: int) -> None:
    """Tell what became of a share; with the last one the root's key follows, and is wiped here."""
    error = taken.error
    outcome = _Outcome(taken.received, taken.share, taken.root is not None, taken.looked_at)
    if error is not None:
        outcome.code, outcome.detail, outcome.hint = error.code, error.detail, error.hint
        outcome.wait = error.wait if isinstance(error, LimitReached) else 1.0
    try:
        line.send(msgspec.json.encode(outcome))
        if taken.root is not None:
            send_key(line, taken.root, epoch)
    finally:
        if taken.root is not None:
            taken.root.wipe()


def receive_outcome(line: socket.socket) -> Taken:
    """Return what became of a share."""
    data = line.recv(_LONGEST_OUTCOME)
    if not data:
        return Taken(0, error=lost_line(), looked_at=False)
    outcome = msgspec.json.decode(data, type=_Outcome)
    if outcome.root:
        line.settimeout(_PATIENCE)
        return Taken(outcome.received, root=receive_key(line)[1], share=outcome.share)
    return Taken(outcome.received, error=_error(outcome), looked_at=outcome.looked_at, share=outcome.share)


def _error(outcome: _Outcome) -> KeyclaveError | None:
    if not outcome.code:
        return None
    if outcome.code == LimitReached.code:
        return LimitReached(outcome.detail, outcome.hint, outcome.wait)
    if outcome.code == errors.Undecipherable.code:
        return errors.Undecipherable()
    return _MIRRORED.get(outcome.code, errors.Broken)(outcome.detail, outcome.hint)


def send_key(line: socket.socket, key: Slot, epoch: int) -> None:
    """Send the root's key as it is held since the closing number `epoch`."""
    line.sendmsg([_HEAD.pack(epoch, len(key)), key.view()])


def receive_key(line: socket.socket) -> tuple[int, Slot]:
    """Return the epoch and the key; `Unavailable` where the other side has none to give."""
    head = bytearray(_HEAD.size)
    slot = Slot(LONGEST_SHARE)
    length = line.recvmsg_into([head, slot.view()])[0] - _HEAD.size
    if length <= 0 or _HEAD.unpack(head)[1] != length:
        slot.wipe()
        raise Unavailable("another process did not give its root key", "unseal the server again if it stays sealed")
    with slot:
        key = Slot(length)
        key.view()[:] = slot.view()[:length]
    return _HEAD.unpack(head)[0], key
