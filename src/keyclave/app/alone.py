"""The lock of a home: held by whoever serves it, and by whoever does to its store what no server may see half done."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from keyclave.core.errors import Unavailable

FILE = "server.lock"


def alone(home: Path) -> IO[bytes]:
    """Take the lock of `home`; whoever closes the file, or dies, gives it back.

    Refused while another has it: a second server would not see what the first one revokes, and a server whose schema is changed
    under it fails at whatever it does next.
    """
    try:
        file = (home / FILE).open("wb")
    except OSError as fault:
        raise Unavailable(f"{home / FILE}: {fault.strerror}", "run it as the user whose home it is") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise Unavailable(
            f"a server serves {home}, or its store is being migrated or moved", "stop the server, or wait for the other to end"
        ) from None
    return file
