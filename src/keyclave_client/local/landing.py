"""Files that appear whole or not at all.

What is written has no name until it is complete and on the disk: on Linux it is an unnamed file (O_TMPFILE), so that even a
killed process leaves nothing, no half-decrypted plaintext either; elsewhere a file with a random name in the same folder. The
folder is opened once and everything happens relative to it, so exchanging the folder for a link midway changes nothing. Links
are not followed.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from keyclave_client.errors import Malformed

_NOT_HERE = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)  # what kernels and file systems say without O_TMPFILE
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
_OPEN_FILES = "/proc/self/fd"
_PERMISSIONS = 0o777  # owner, group, others; never set-user-id or the like on something that came out of a ciphertext


def open_source(path: str | os.PathLike[str], *, follow_symlinks: bool, writable: bool = False) -> BinaryIO:
    """Open a regular file, unbuffered; anything else at `path` is `Malformed`."""
    flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow_symlinks else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Malformed(f"{os.fspath(path)} is a symbolic link", "name the file itself, or ask to follow links") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Malformed(f"{os.fspath(path)} is not a regular file", "use the stream functions for pipes and devices")
    return open(descriptor, "r+b" if writable else "rb", buffering=0)


@contextmanager
def landing(dest: str | os.PathLike[str], mode: int, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Give a file to write; when the block ends without error it is at `dest`, durably, with the permission bits of `mode`.

    Raises FileExistsError if something is at `dest` and `overwrite` is false (asked first, and again, atomically, at the end),
    and `Malformed` if a symbolic link or anything but a regular file is there.
    """
    folder_path, name = os.path.split(os.path.abspath(os.fspath(dest)))
    folder = os.open(folder_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check(folder, name, overwrite)
        file, temporary = _nameless(folder) or _random_name(folder)
        try:
            with file:
                yield file
                os.fchmod(file.fileno(), stat.S_IMODE(mode) & _PERMISSIONS)
                os.fsync(file.fileno())
                if not overwrite:
                    _land_new(file, folder, temporary, name)
                else:
                    if temporary is None:  # a file without a name cannot replace one: it gets a name of its own first
                        temporary = _unique(name)
                        _link(file, folder, temporary)
                    os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
                os.fsync(folder)
        finally:
            if temporary is not None:
                with suppress(FileNotFoundError):  # gone when it has become `name`
                    os.unlink(temporary, dir_fd=folder)
    finally:
        os.close(folder)


def _check(folder: int, name: str, overwrite: bool) -> None:
    """Refuse early, before work is done for nothing."""
    try:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not overwrite:
        raise FileExistsError(errno.EEXIST, "there is a file already; ask to overwrite it", name)
    if not stat.S_ISREG(there.st_mode):
        raise Malformed(f"{name} is a link or not a regular file", "remove it yourself if it is not wanted")


def _nameless(folder: int) -> tuple[BinaryIO, str | None] | None:
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None or not os.path.isdir(_OPEN_FILES):
        return None
    try:
        return open(os.open(".", flag | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=folder), "w+b", buffering=0), None
    except OSError as error:
        if error.errno in _NOT_HERE:
            return None
        raise


def _random_name(folder: int) -> tuple[BinaryIO, str | None]:
    name = _unique("new")
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    return open(os.open(name, flags, 0o600, dir_fd=folder), "w+b", buffering=0), name


def _unique(name: str) -> str:
    return f".{name[:200]}.{secrets.token_hex(8)}.part"


def _link(file: BinaryIO, folder: int, name: str) -> None:
    """Give an unnamed file its name, unless something has it."""
    os.link(f"{_OPEN_FILES}/{file.fileno()}", name, dst_dir_fd=folder, follow_symlinks=True)


def _land_new(file: BinaryIO, folder: int, temporary: str | None, name: str) -> None:
    """Take `name` only if it is free: linking fails where renaming would silently replace."""
    if temporary is None:
        _link(file, folder, name)
        return
    try:
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # a file system without hard links: take the name first, which also fails if it is not free, then replace what is ours
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=folder))
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
