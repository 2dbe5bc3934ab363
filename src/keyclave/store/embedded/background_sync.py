"""fdatasync beside other work: POSIX asynchronous I/O as glibc has it (aio_fsync(3), aio_suspend(3)).

A Python thread would not do. It waits for the interpreter before it can begin and again when it is done, and each of these
hand-overs costs about what the work beside gains. glibc's own threads need no interpreter.
"""

from __future__ import annotations

import ctypes
import errno
import os


class _SignalEvent(ctypes.Structure):
    """struct sigevent: 64 bytes."""

    _fields_ = (("value", ctypes.c_void_p), ("signo", ctypes.c_int), ("notify", ctypes.c_int), ("rest", ctypes.c_char * 48))


class _Control(ctypes.Structure):
    """struct aiocb of glibc where pointers have 64 bits. What is the library's own in it is 72 bytes; there is room for more."""

    _fields_ = (
        ("file", ctypes.c_int), ("opcode", ctypes.c_int), ("priority", ctypes.c_int), ("buffer", ctypes.c_void_p),
        ("length", ctypes.c_size_t), ("event", _SignalEvent), ("own", ctypes.c_char * 160),
    )  # fmt: skip


_SIGEV_NONE = 1


class BackgroundSync:
    """Syncs one file, one time after the other."""

    def __init__(self, file: int) -> None:
        """`file` is open for writing, and stays so until `wait` has returned. Only where `available`."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._control = _Control(file=file, event=_SignalEvent(notify=_SIGEV_NONE))
        self._list = (ctypes.c_void_p * 1)(ctypes.addressof(self._control))
        self.going = False

    def start(self) -> bool:
        """Begin; False if the library cannot now. Not before `wait` has returned from the last time."""
        self.going = self._libc.aio_fsync(os.O_DSYNC, ctypes.byref(self._control)) == 0
        return self.going

    def wait(self) -> None:
        """Return when what was written before `start` is durable; raise `OSError` if it is not."""
        libc, control = self._libc, ctypes.byref(self._control)
        while (fault := libc.aio_error(control)) == errno.EINPROGRESS:
            libc.aio_suspend(self._list, 1, None)  # returns early for a signal
        libc.aio_return(control)
        self.going = False
        if fault:
            raise OSError(fault, os.strerror(fault))


def available() -> bool:
    """Tell whether this process has it: the layout above is that of one library."""
    try:
        library = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        return False
    return bool(library) and ctypes.sizeof(ctypes.c_void_p) == 8 and hasattr(ctypes.CDLL(None), "aio_fsync")
