"""What others wrote, read strictly: files, text, base64, JSON. Who wrote it may want the reader to hang, to crash or to misread.

Only regular files are opened, without waiting, and never more of one than its kind can hold. JSON is UTF-8, with each name once,
numbers that every reader takes alike, no half of a surrogate pair, and no deeper than anything that Keyclave writes.
"""

from __future__ import annotations

import base64
import json
import math
import os
import stat
from pathlib import Path
from typing import Any

from keyclave_verify.report import Unusable

DEEPEST = 64  # levels of JSON: what Keyclave writes has six
MEGABYTE = 1 << 20  # of a note, of keys, of a receipt: none of them reaches a third of it
_EXACT = 2**53


# ---- files ----------------------------------------------------------------------------------------------------------------
def read_file(path: Path, most: int) -> bytes | None:
    """Return a file's bytes, at most one more than `most`; None where there is none, Unusable for what is no regular file.

    Whoever gets more than `most` bytes has a file that is too long: a pipe, a device or a sparse file of terabytes would else be
    read for ever.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise Unusable(f"{path}: cannot be read: it is no regular file")
            return file.read(min(found.st_size, most) + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unusable(f"{path}: cannot be read: {error.strerror}") from None


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe that nobody writes to would be waited for


# ---- text -----------------------------------------------------------------------------------------------------------------
def read_text(raw: bytes) -> str:
    """Decode UTF-8 without a byte order mark; ValueError says what it is instead."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text: copy it again, byte for byte") from None
    if text.startswith("\ufeff"):
        raise ValueError("it begins with a byte order mark: save it as UTF-8 without one, or copy it again")
    return text


def check_line_ends(text: str) -> None:
    """ValueError for lines that an editor or a mail program ended in its own way: what is signed is bytes."""
    if "\r" in text:
        raise ValueError("its lines end in CR LF, and must end in LF alone: copy it again, byte for byte")


def decode_base64(text: object) -> bytes:
    """Decode base64 in its one spelling; anything else is ValueError."""
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except ValueError:
        data = None
    if data is None or base64.b64encode(data).decode() != text:
        raise ValueError(
            "a part that should be base64 is not, or is spelled in another way than encoders do: copy it again, whole"
        )
    return data


# ---- JSON -----------------------------------------------------------------------------------------------------------------
def read_json(text: str) -> Any:
    """Return what a JSON text says; ValueError says why it is not taken."""
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON (line {error.lineno}, column {error.colno}): copy it again, whole") from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    check_depth(value)
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a text of it holds half of a surrogate pair") from None
    return value


def fits(value: Any, shape: Any) -> bool:
    """Tell whether a JSON value has a shape.

    A type is itself; `[shape]` a list of it; `{name: shape}` an object of these names and no others, `name?` one that may be left
    out; `object` is anything.
    """
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(item, shape[0]) for item in value)
    if isinstance(shape, dict):
        names = {name.rstrip("?"): inner for name, inner in shape.items()}
        needed = {name for name in shape if not name.endswith("?")}
        return (
            isinstance(value, dict)
            and needed <= set(value) <= set(names)
            and all(fits(inner, names[name]) for name, inner in value.items())
        )
    return shape is object or type(value) is shape  # type, not isinstance: true is no number


def exact(text: str) -> int:
    """Return a whole number that is exact in every JSON reader (RFC 8785 section 3.2.2.3)."""
    number = int(text) if len(text) <= 17 else _EXACT  # never make a number of thousands of digits
    if abs(number) >= _EXACT:
        raise ValueError(f"a number of it is not exact in every JSON reader ({text[:24]})")
    return number


def check_depth(value: Any, left: int = DEEPEST) -> None:
    """ValueError for what is nested deeper than `left` levels."""
    if isinstance(value, dict | list):
        if not left:
            raise ValueError(_TOO_DEEP)
        for inner in value.values() if isinstance(value, dict) else value:
            check_depth(inner, left - 1)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:24]} is no number in JSON")
    return number


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):  # readers differ on which one counts
        raise ValueError("a name is there twice")
    return made


_TOO_DEEP = f"it is nested deeper than {DEEPEST} levels"
_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_int=exact, parse_float=_finite, parse_constant=_finite)
