"""A program: imports every module of the packages it is given, and prints what they open, start or connect meanwhile.

    python import_watch.py SOURCE PACKAGE...

An import that opens something cannot be tried, replaced or closed, and fails before anyone can say why. Watched are files (to
write, or to read by our own code), sockets, databases, processes, directories and threads.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from pathlib import Path
from types import FrameType

# Alembic runs this one as a script on a connection that it hands over; it is not imported by anything.
RUN_BY_ALEMBIC = "keyclave.store.migrations.env"

ALWAYS = {
    "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.system", "os.exec", "os.fork", "os.posix_spawn",
    "socket.__new__", "socket.bind", "socket.connect", "socket.getaddrinfo", "sqlite3.connect", "subprocess.Popen",
}  # fmt: skip
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def opener(frame: FrameType | None, source: str) -> str:
    """Return our file that opens, "" when the import system or another library does."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(source):
            return name
        if name.startswith("<frozen importlib"):
            return ""
        frame = frame.f_back
    return ""


def watch(source: str, packages: list[str]) -> list[str]:
    """Import everything; return one line for each thing that was opened."""
    found: list[str] = []
    current = ""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if not current:
            return
        if event == "open":
            flags = arguments[2]
            writes = isinstance(flags, int) and bool(flags & WRITES)
            if writes or opener(sys._getframe(1), source):
                found.append(f"{current}: open {arguments[0]!r}")
        elif event in ALWAYS:
            found.append(f"{current}: {event}")

    sys.addaudithook(hook)
    for package in packages:
        for path in sorted(Path(source, package).rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if module == RUN_BY_ALEMBIC or parts[-1] == "__main__":  # a program runs when it is imported
                continue
            current, threads = module, threading.active_count()
            importlib.import_module(module)
            if threading.active_count() > threads:
                found.append(f"{module}: starts a thread")
            current = ""
    return found


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.path.insert(0, sys.argv[1])
    breaches = watch(str(Path(sys.argv[1]).resolve()) + os.sep, sys.argv[2:])
    print("\n".join(breaches))
    sys.exit(bool(breaches))
