"""The file for a secret that is seen once: its place is taken before the server is asked for the secret."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from keyclave_cli.problems import USAGE, Stop


@contextmanager
def new_file(path: str | Path | None, hint: str = "name a new one: a token is written once") -> Iterator[IO[bytes] | None]:
    """Open a new file that only its owner reads; it goes again if what was to be in it never came. No path, no file."""
    if path is None:
        yield None
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise Stop(f"{path}: there is a file already", hint, USAGE) from None
    except OSError as error:
        raise Stop(f"{path}: {error.strerror}", "name a new file in a folder that exists and is yours", USAGE) from None
    with os.fdopen(descriptor, "wb") as file:
        try:
            yield file
        except BaseException:
            os.unlink(path)
            raise
