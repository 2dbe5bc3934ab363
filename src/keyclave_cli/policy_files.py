"""A bundle on disk: a directory of Cedar files and a rules.toml, as the server takes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from keyclave_cli.problems import USAGE, Stop

_BYTES = 2 << 20  # what a server takes, of all files together
_MOST = 65


def read_bundle(directory: Path) -> dict[str, str]:
    """Return the files of a directory. Hidden files are left alone; any other that belongs to no bundle is refused, for it looks
    as if it were in force."""
    if not directory.is_dir():
        raise Stop(f"{directory}: there is no such directory", "`keyclave policy export DIRECTORY` writes one", USAGE)
    files: dict[str, str] = {}
    size = 0
    for entry in sorted(directory.iterdir()):
        if entry.name.startswith("."):
            continue
        if not entry.is_file() or (entry.suffix != ".cedar" and entry.name != "rules.toml"):
            raise Stop(f"{entry}: this belongs to no bundle", "keep only *.cedar and rules.toml in the directory", USAGE)
        size += entry.stat().st_size
        if size > _BYTES or len(files) >= _MOST:
            raise Stop(f"{directory}: this is too large for a bundle", "at most 64 Cedar files and 2 MiB of text", USAGE)
        try:
            files[entry.name] = entry.read_text("utf-8")
        except UnicodeDecodeError:
            raise Stop(f"{entry}: this is not UTF-8 text", "save it as UTF-8", USAGE) from None
    return files


def write_bundle(directory: Path, files: Mapping[str, str], *, force: bool) -> None:
    """Write files into a directory; names come from a server, so only plain ones are taken. Files that are there are kept
    unless `force`."""
    for name in files:
        if name != "rules.toml" and (not name.endswith(".cedar") or "/" in name or "\\" in name or name.startswith(".")):
            raise Stop(f"{name!r} is no name of a file of a bundle", "ask whoever keeps the server: it is not what it seems")
    directory.mkdir(parents=True, exist_ok=True)
    present = [name for name in files if (directory / name).exists()]
    if present and not force:
        raise Stop(f"{directory / present[0]}: there is a file already", "give an empty directory, or --force to replace it")
    for name, text in files.items():
        (directory / name).write_text(text, "utf-8", newline="\n")
