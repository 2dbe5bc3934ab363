"""The newest checkpoint that a home has seen, in a file beside its database: a record that was set back is noticed at the start.

A database that lost its end is whole in itself. So it looks whenever something outside it is needed to tell: a bit that flips
in the write-ahead log ends it there, a disk that lied about a sync, a standby that was promoted without the last commits, an
older copy put in its place. Then keys that were answered are gone, and revocations that were answered are in force no more.

The file is written after the database has the checkpoint on disk, and read before anything of the log is: whoever is killed in
between, or starts beside another worker, finds a log that is at least as long.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from keyclave.audit.checkpoint import Checkpoint, verify_checkpoint
from keyclave.audit.note import parse_vkey
from keyclave.core.errors import Broken, InvalidSignature, KeyclaveError, Malformed
from keyclave.crypto.log_keys import LogVerifier

logger = logging.getLogger("keyclave")

FILE = "newest.checkpoint"
_LARGEST = 200_000  # bytes: 64 cosignatures, each of the longest


class Grown(Protocol):
    """What is asked of a log."""

    vkeys: list[str]

    @property
    def size(self) -> int: ...

    def root_at(self, size: int) -> bytes: ...


class Newest:
    """The file of one home, written by one process."""

    def __init__(self, home: Path) -> None:
        self._path = home / FILE
        self._size = 0  # of what it holds, as far as this process knows
        self._failing = False
        self._one = threading.Lock()  # at a time: the last one, at the end, may meet the one before

    def keep(self, checkpoint: tuple[int, bytes, str] | None) -> None:
        """Keep a checkpoint (size, root, note) that is durable in the database, if it is newer. It waits for the disk.

        From any thread. A disk that takes none is said once and tried again with the next: nobody's request waits for this file.
        """
        with self._one:
            if checkpoint is None or checkpoint[0] <= self._size:
                return
            try:
                self._write(checkpoint[2].encode())
            except OSError as fault:
                if not self._failing:
                    logger.error("%s cannot be written: %s", self._path, fault.strerror)
                self._failing = True
                return
            self._size, self._failing = checkpoint[0], False

    def _write(self, note: bytes) -> None:
        """Replace the file, whole or not at all."""
        part = self._path.with_suffix(".part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path)


def read_newest(home: Path) -> str | None:
    """Return what the file of a home says; None where there is none. Before the log is read."""
    path = home / FILE
    try:
        with path.open("rb") as file:
            note = file.read(_LARGEST + 1)
        return note.decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as fault:
        raise _no_checkpoint(path, str(fault)) from None


def check_newest(home: Path, note: str | None, log: Grown) -> None:
    """Refuse a log that is not the one of which this home has seen `note`, or its continuation."""
    if note is None:
        return
    path = home / FILE
    seen = _verified(path, note, log.vkeys)
    if seen.size > log.size:
        raise Broken(
            f"the record ends at {log.size} events, though this home has seen {seen.size} of it signed: "
            f"the last {seen.size - log.size} and what they changed are gone from the database",
            _what_to_do(path),
        )
    if log.root_at(seen.size) != seen.root:
        raise Broken(
            f"the first {seen.size} events of the record are not those that this home has seen signed: it is another record",
            _what_to_do(path),
        )


def _verified(path: Path, note: str, vkeys: Iterable[str]) -> Checkpoint:
    try:
        return verify_checkpoint(note, [parse_vkey(key) for key in vkeys], LogVerifier())
    except InvalidSignature:
        raise _no_checkpoint(path, "this log's keys did not sign it") from None
    except Malformed as fault:
        raise _no_checkpoint(path, fault.detail) from None


def _no_checkpoint(path: Path, why: str) -> KeyclaveError:
    return Broken(
        f"{path} is not a checkpoint of this home's record: {why}",
        "see that home and database belong together; if they do, move the file out of the home and start again",
    )


def _what_to_do(path: Path) -> str:
    return (
        f"keep the database and {path.name} as evidence and restore the newest copy; only if there is no newer one, "
        f"move {path} out of the home, start again, and revoke again whatever was revoked since"
    )
