"""A policy bundle: Cedar files and rules.toml, as one value with one hash. People keep the directory in version control."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from keyclave.core.canonical_json import canonical_json
from keyclave.core.errors import Malformed, TooLarge
from keyclave.crypto.digest import sha256

RULES = "rules.toml"
_FILES = 64
_BYTES = 2 << 20  # of all files together: 2,000 policies take about 400 KiB
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,60}\.cedar")

Files = Annotated[dict[str, str], Meta(max_length=_FILES + 1)]


class Bundle(msgspec.Struct, frozen=True):
    """File name to text; the names are those of the directory."""

    files: dict[str, str]

    @property
    def rules(self) -> str:
        """Return the text of rules.toml."""
        return self.files[RULES]

    @property
    def cedar(self) -> dict[str, str]:
        """Return the Cedar files, by name."""
        return {name: text for name, text in sorted(self.files.items()) if name != RULES}

    def digest(self) -> bytes:
        """Return the SHA-256 of the canonical form: what is signed, approved, logged and compared."""
        return sha256(canonical_json({"files": dict(self.files), "format": "keyclave/policy/1"}))


def checked_bundle(files: dict[str, str]) -> Bundle:
    """Return the bundle of these files, or refuse names, sizes and letters that a bundle does not have."""
    if RULES not in files:
        raise Malformed(f"a bundle has a {RULES}", "`keyclave policy export DIR` writes the one in force")
    if len(files) > _FILES or sum(len(text) for text in files.values()) > _BYTES:
        raise TooLarge(f"a bundle is at most {_FILES} files and {_BYTES >> 20} MiB", "join files, or use roles and tags")
    for name, text in files.items():
        if name != RULES and not _NAME.fullmatch(name):
            raise Malformed(f"{name!r} is no file of a bundle", f"a bundle is {RULES} and files named like wards.cedar")
        if "\0" in text or "\r" in text or (not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)):
            raise Malformed(f"{name} is not plain text", "save it as UTF-8 with Unix line ends")
    return Bundle(files=dict(sorted(files.items())))


def read_directory(path: Path) -> Bundle:
    """Return the bundle of a directory; files that belong to none are refused, for they look as if they were in force."""
    files = {}
    for entry in sorted(path.iterdir()):
        if entry.name.startswith("."):
            continue
        files[entry.name] = entry.read_text("utf-8")
    return checked_bundle(files)


def standard(*, people: str) -> Bundle:
    """Return the bundle a new home begins with. `people`: "passkeys" asks people to prove themselves, "tokens" takes their
    bearer credentials (development, tests and scripts)."""
    folder = Path(__file__).parent / "standard"
    files = {path.name: path.read_text("utf-8") for path in folder.glob("*.cedar")}
    files[RULES] = (folder / f"rules.{people}.toml").read_text("utf-8")
    return checked_bundle(files)
