"""Telling whether a result that is there already is the one wanted, and when a source may go."""

from __future__ import annotations

import os
from typing import BinaryIO

from keyclave_cli.problems import Stop
from keyclave_client import Encryptor, inspect_file
from keyclave_client.errors import KeyclaveError, Malformed, Refused, Undecipherable, Unknown
from keyclave_client.local.landing import open_source

Context = dict[str, str]


def is_object(path: str) -> bool:
    """Tell whether the file at `path` is a whole object, by its content and not its name."""
    try:
        inspect_file(path)
    except Malformed:
        return False
    return True


def holds(encryptor: Encryptor, sealed: str, plain: str, context: Context) -> bool:
    """Tell whether the object `sealed`, decrypted in `context`, is the file `plain` as it is now, byte for byte.

    Sizes and dates would not do: images of one series are all of one size, and a file that was moved here keeps its date.
    """
    with open_source(plain, follow_symlinks=False) as file, open_source(sealed, follow_symlinks=False) as source:
        return _same(encryptor, source, file, context)


def sealed_already(encryptor: Encryptor, source: str, sealed: str, context: Context) -> bool:
    """Tell whether `sealed` is an object of `source` as it is now, under the key and the context that are asked for."""
    try:
        return is_object(sealed) and holds(encryptor, sealed, source, context)
    except Undecipherable:
        return False
    except (Refused, Unknown):
        raise Stop(
            f"{sealed} is there, and this credential may not open it to see whether it is {source}",
            "use a credential that may unwrap, too; --force encrypts it again",
        ) from None


def remove_source(encryptor: Encryptor, source: str, sealed: str, context: Context) -> None:
    """Remove `source` once `sealed`, which is on the disk, was decrypted and found to be the same, byte for byte."""
    with open_source(source, follow_symlinks=False) as plain, open_source(sealed, follow_symlinks=False) as file:
        try:
            same = _same(encryptor, file, plain, context)
        except KeyclaveError as error:
            raise Stop(
                f"{source} stays: {sealed} does not decrypt ({error.detail})", "check key and context, then encrypt it again"
            ) from None
        if not same:
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


def _same(encryptor: Encryptor, sealed: BinaryIO, plain: BinaryIO, context: Context) -> bool:
    comparison = _Comparison(plain)
    encryptor.decrypt_stream(sealed, comparison, context)
    return comparison.same and not plain.read(1)


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
