"""The folder that spools lie in: the serving user's alone, entered once, and every file in it named from there.

Whoever could put a file there could have events placed that never happened, and whoever could take one away could unmake events;
so the folder is refused if anybody else may write or read it, and no symbolic link is followed, in it or as it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from pathlib import Path

from keyclave.core.errors import Malformed

MODE = 0o600
_NAME = re.compile(r"[0-9a-f]{16}\.spool")
_LINKS = (errno.ELOOP, errno.ENOTDIR)


class Folder:
    """An open folder of spools."""

    def __init__(self, path: Path) -> None:
        """Enter the folder, or make it. One that others may use is `Malformed`, with what to do."""
        self.path = path
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            self._directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as fault:
            reason = (
                "it is a link or no folder" if fault.errno in _LINKS or isinstance(fault, FileExistsError) else fault.strerror
            )
            raise Malformed(
                f"stale_spool: {path} cannot be used: {reason}", "name a folder of the serving user's, or one it can make"
            ) from None
        found = os.fstat(self._directory)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            os.close(self._directory)
            raise Malformed(
                f"stale_spool: others than the serving user may use {path}",
                f"`chown` it to user {os.geteuid()} and `chmod 700` it, after a look at what lies in it",
            )

    def create(self, name: str) -> int:
        """Make a new file that this process holds the lock of; return its descriptor. It is in the folder for good."""
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE, dir_fd=self._directory)
        try:
            os.fchmod(file, MODE)  # whatever the umask is
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fsync(self._directory)
        except BaseException:
            os.close(file)
            raise
        return file

    def lock(self, name: str) -> int | None:
        """Open a spool whose writer is dead, and lock it; None while somebody else has it, or if it has just been deleted."""
        try:
            file = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._directory)
        except FileNotFoundError:
            return None
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                raise OSError(errno.EPERM, "it is not a file of the serving user's")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_nlink == 1:  # not deleted between being opened and being locked, and nowhere else as well
                return file
        except BlockingIOError:
            pass
        except BaseException:
            os.close(file)
            raise
        os.close(file)
        return None

    def spools(self) -> list[str]:
        """Return the names of all spools, those being written among them."""
        return sorted(name for name in os.listdir(self._directory) if _NAME.fullmatch(name))

    def remove(self, name: str) -> None:
        """Delete a file for good."""
        os.unlink(name, dir_fd=self._directory)
        os.fsync(self._directory)

    def set_aside(self, name: str) -> None:
        """Keep a damaged spool, where nobody takes it for one to be placed."""
        kept = name.removesuffix(".spool") + ".damaged"
        os.rename(name, kept, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        os.fsync(self._directory)

    def close(self) -> None:
        """Leave it."""
        os.close(self._directory)
