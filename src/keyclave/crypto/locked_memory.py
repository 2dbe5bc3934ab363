"""Memory that does not leave the process: not swapped, not dumped, not inherited by a child (memfd_secret(2), mlock(2),
madvise(2)).

With `memfd_secret` the pages are taken out of the kernel's own map, so that not even root reads them from outside through
/proc/PID/mem. Where the kernel has none to give, anonymous memory is locked and left out of dumps; root can still read that one.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import signal

from keyclave.core.errors import Broken, Unavailable

_SYS_MEMFD_SECRET = 447  # the same number on every architecture of Linux since 5.14
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_MADV_DONTFORK = 10
_MADV_DONTDUMP = 16
_MADV_WIPEONFORK = 18


def lock_down() -> None:
    """Forbid core dumps, and reading by other processes of the same user (prctl(2), PR_SET_DUMPABLE; RLIMIT_CORE)."""
    if _libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise Broken("the process cannot be made undumpable", "see the kernel's settings for prctl")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the process `parent`, which started it, ends (prctl(2), PR_SET_PDEATHSIG)."""
    if _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise Broken("the process cannot be bound to the one that started it", "see the kernel's settings for prctl")
    if os.getppid() != parent:  # it had ended already
        raise Broken("the process that started this one has gone", "start the server again")


class Mapping:
    """`size` bytes of such memory at `address`, all zero. Never unmapped: an address that was once given out stays valid."""

    def __init__(self, size: int, *, secret: bool = True) -> None:
        """Map them; `secret=False` skips memfd_secret (for kernels without it, and for tests of that way)."""
        memory = _map_secret(size) if secret else None
        self.secret = memory is not None
        self.size = size
        self._memory = memory or _map_anonymous(size)
        self._first = ctypes.c_char.from_buffer(self._memory)  # holds the mapping open
        self.address = ctypes.addressof(self._first)
        self.view = memoryview(self._memory)
        if self.secret:
            # WIPEONFORK does not exist for shared mappings, and these pages are the parent's own: the child gets no mapping
            # at all
            self._memory.madvise(_MADV_DONTFORK)
        else:
            self._lock()
        ctypes.memset(self.address, 0, size)  # every page is there now: running out of memory shows here, not in mid-operation

    def _lock(self) -> None:
        if _libc().mlock(ctypes.c_void_p(self.address), ctypes.c_size_t(self.size)) != 0:
            raise Unavailable(
                "memory for keys cannot be locked",
                "raise RLIMIT_MEMLOCK (systemd: LimitMEMLOCK) to at least 64 MiB and start again",
            )
        self._memory.madvise(_MADV_DONTDUMP)
        self._memory.madvise(_MADV_WIPEONFORK)
        self._memory.madvise(_MADV_DONTFORK)


def _map_secret(size: int) -> mmap.mmap | None:
    """Return memory of memfd_secret(2), or None where there is none: an old kernel, a seccomp filter, a limit reached."""
    descriptor = _libc().syscall(_SYS_MEMFD_SECRET, os.O_CLOEXEC)
    if descriptor < 0:
        return None
    try:
        os.ftruncate(descriptor, size)
        return mmap.mmap(descriptor, size)
    except (OSError, ValueError):
        return None
    finally:
        os.close(descriptor)


def _map_anonymous(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
