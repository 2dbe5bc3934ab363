"""A small disk for a database member, to be filled to the last byte: a file with an ext4 in it, mounted where its data lie.

It needs the right to mount and a loop device. Where there is none, the data lie on the machine's own disk and the drill of the full
disk is not held, which the run says.
"""

from __future__ import annotations

import errno
import subprocess
import tempfile
from pathlib import Path


def _run(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False).returncode == 0


class SmallDisk:
    """A file system of its own with `mebibytes` of space."""

    def __init__(self, image: Path, at: Path, mebibytes: int) -> None:
        self._image, self._at, self._mebibytes = image, at, mebibytes
        self.mounted = False

    def mount(self) -> bool:
        """Make and mount it; tell whether that went well."""
        with self._image.open("wb") as file:
            file.truncate(self._mebibytes << 20)
        self._at.mkdir(parents=True, exist_ok=True)
        # No blocks kept back for root: full is full for everybody.
        made = _run("mkfs.ext4", "-q", "-m", "0", "-F", str(self._image))
        self.mounted = made and _run("mount", "-o", "loop", str(self._image), str(self._at))
        return self.mounted

    @property
    def _ballast(self) -> Path:
        return self._at / "ballast"

    def fill(self) -> int:
        """Fill it to the last byte; return how many bytes that took."""
        with self._ballast.open("wb", buffering=0) as file:
            for piece in (1 << 20, 4096, 1):
                try:
                    while True:
                        file.write(bytes(piece))
                except OSError as fault:
                    if fault.errno != errno.ENOSPC:
                        raise
            return file.tell()

    def free(self) -> None:
        """Give the space back."""
        self._ballast.unlink(missing_ok=True)

    def unmount(self) -> None:
        """Take it away."""
        if self.mounted:
            _run("umount", str(self._at)) or _run("umount", "-l", str(self._at))
            self.mounted = False


def can_mount_files() -> bool:
    """Tell whether this process may mount a file as a disk."""
    with tempfile.TemporaryDirectory() as folder:
        disk = SmallDisk(Path(folder) / "image", Path(folder) / "at", 8)
        mounted = disk.mount()
        disk.unmount()
        return mounted
