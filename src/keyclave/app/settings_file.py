"""Changes of keyclave.toml that a program makes: the file stays as people wrote it, but for the lines in question."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from keyclave.app.config import FILE, StoreSection, load

_SECTION = re.compile(r"^\[store\][^\n]*\n(?:(?!\[)[^\n]*\n?)*", re.MULTILINE)
_DATABASE = re.compile(r"^database\s*=[^\n]*\n", re.MULTILINE)


def store_lines(section: StoreSection, cluster: str) -> str:
    """Return the [store] table of a database that nodes share."""
    lines = [f"url = {_quoted(section.url)}", f"cluster = {_quoted(cluster)}  # whose database it has to be"]
    lines += [f"password_file = {_quoted(section.password_file)}"] if section.password_file else []
    return "[store]\n" + "\n".join(lines) + "\n\n"


def name_store(home: Path, to: StoreSection | Path, cluster: str) -> None:
    """Let the home's configuration name another store; whole or not at all, and only if it can be read afterwards."""
    path = home / FILE
    text = _DATABASE.sub("", _SECTION.sub("", path.read_text()))
    if isinstance(to, StoreSection):
        text = text.rstrip("\n") + "\n\n" + store_lines(to, cluster)
    else:
        text = f"database = {_quoted(os.path.relpath(to, home) if to.is_relative_to(home) else str(to))}\n" + text
    part = path.with_name(f"{FILE}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    load(home)


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
