"""How results are written: tables and aligned fields for a terminal, plain columns for a pipe, JSON when asked.

What comes from a server or a file name may hold control characters that a terminal would obey; they are shown, not sent.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_UNBOUNDED = 100_000  # columns of a terminal that breaks nothing
_REPLACED = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)}


def printable(text: str) -> str:
    """Return `text` with control characters and what no terminal can show made visible (line breaks and tabs stay)."""
    return text.translate(_REPLACED).encode("utf-8", "backslashreplace").decode()


def is_terminal() -> bool:
    """Tell whether a person reads stdout."""
    return sys.stdout.isatty()


def write_json(value: Any) -> None:
    """Write one JSON document, ASCII only. Bytes become base64."""
    sys.stdout.write(json.dumps(plain(value), indent=2) + "\n")


def plain(value: Any) -> Any:
    """Return `value` made of what JSON has: dataclasses become objects, bytes base64, tuples lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def write_done(done: Any, text: str, *, as_json: bool) -> None:
    """Say what was done: the answer as JSON, or a sentence about it."""
    if as_json:
        write_json(done)
    else:
        say(text)


def write_list(
    found: Sequence[Any], columns: Sequence[str], rows: Sequence[Sequence[object]], *, as_json: bool, empty: str
) -> None:
    """Write what was found: all that is known of each as JSON, or its row under `columns`."""
    if as_json:
        write_json(found)
    else:
        write_table(columns, rows, empty=empty)


def write_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Write rows under their columns: a table for a terminal, tab-separated lines for a pipe; `empty` is said of none.

    Cells are broken between words alone, so that an id can be copied whole. Where a terminal is too narrow for that, each row is
    written as fields.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    if not is_terminal():
        for row in ([column.replace(" ", "_").lower() for column in columns], *cells):
            sys.stdout.write("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row) + "\n")
        return
    if not cells:
        say(empty)
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(file=sys.stdout, highlight=False)
    if Measurement.get(console, console.options.update_width(_UNBOUNDED), table).minimum <= console.width:
        console.print(table)
        return
    for row in cells:
        write_fields(zip(columns, row, strict=True))
        sys.stdout.write("\n")


def write_fields(pairs: Iterable[tuple[str, object]]) -> None:
    """Write names and values one below the other; a value that is None is left out."""
    known = [(name, _cell(value)) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        sys.stdout.write(f"{name.ljust(width)}  {value}\n")


def say(text: str) -> None:
    """Write a sentence to stdout."""
    sys.stdout.write(printable(text) + "\n")


def note(text: str) -> None:
    """Write a sentence to stderr, where it is in nobody's way."""
    sys.stderr.write(printable(text) + "\n")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return printable(", ".join(f"{name}={item}" for name, item in value.items())) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(str(value)) or "-"


def size_text(count: int) -> str:
    """Return a number of bytes as people say it."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def count_text(count: int, one: str, many: str | None = None) -> str:
    """Return e.g. "1 file" or "1,200 files"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
