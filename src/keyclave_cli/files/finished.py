"""Telling whether a result that is there already is the one wanted, and when a source may go."""

from __future__ import annotations

import os
from typing import BinaryIO

from keyclave_cli.problems import Stop
from keyclave_client import Encryptor, inspect_file
from keyclave_client.errors import KeyclaveError, Malformed
from keyclave_client.local.landing import open_source

Context = dict[str, str]


def is_object(path: str) -> bool:
    """Tell whether the file at `path` is a whole object, by its content and not its name."""
    try:
        inspect_file(path)
    except Malformed:
        return False
    return True


def sealed_already(source: str, sealed: str, key_id: str | None) -> bool:
    """Tell whether `sealed` is a whole object of `source` as it is now: newer, of its size, and of the key asked for.

    Whether the encryption context is the same cannot be seen from outside; removing a source depends on decrypting,
    not on this.
    """
    try:
        seen = inspect_file(sealed)
    except (Malformed, FileNotFoundError):
        return False
    return (key_id is None or seen.key == key_id) and _made_after(source, sealed, seen.plaintext_size)


def opened_already(sealed: str, plain: str) -> bool:
    """Tell whether `plain` looks like the whole plaintext of `sealed` as it is now: newer, and of its size."""
    try:
        size = inspect_file(sealed).plaintext_size
        return size == os.lstat(plain).st_size and os.lstat(plain).st_mtime_ns >= os.lstat(sealed).st_mtime_ns
    except (Malformed, FileNotFoundError):
        return False


def _made_after(source: str, sealed: str, plaintext_size: int | None) -> bool:
    before, after = os.lstat(source), os.lstat(sealed)
    return plaintext_size == before.st_size and after.st_mtime_ns >= before.st_mtime_ns


def remove_source(encryptor: Encryptor, source: str, sealed: str, context: Context) -> None:
    """Remove `source` once `sealed`, which is on the disk, was decrypted and found to be the same, byte for byte."""
    with open_source(source, follow_symlinks=False) as plain, open_source(sealed, follow_symlinks=False) as file:
        comparison = _Comparison(plain)
        try:
            encryptor.decrypt_stream(file, comparison, context)
        except KeyclaveError as error:
            raise Stop(
                f"{source} stays: {sealed} does not decrypt ({error.detail})", "check key and context, then encrypt it again"
            ) from None
        if not comparison.same or plain.read(1):
            raise Stop(f"{source} stays: {sealed} holds something else", "encrypt it again with --force")
        there, ours = os.lstat(source), os.fstat(plain.fileno())
        if (there.st_ino, there.st_dev, there.st_size, there.st_mtime_ns) != (
            ours.st_ino,
            ours.st_dev,
            ours.st_size,
            ours.st_mtime_ns,
        ):
            raise Stop(f"{source} stays: it changed meanwhile", "encrypt it again when nothing writes to it")
        os.unlink(source)
    folder = os.open(os.path.dirname(source) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class _Comparison:
    """A sink that compares what it is given with a file, and keeps nothing."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.same = True

    def write(self, data: memoryview) -> int:
        """Compare the next bytes."""
        at = 0
        while at < len(data):
            piece = self._file.read(len(data) - at)
            if not piece or piece != data[at : at + len(piece)]:
                self.same = False
                return len(data)
            at += len(piece)
        return len(data)
