"""SPIFFE IDs: the one spelling of a workload's name (SPIFFE-ID specification, section 2).

    spiffe://<trust domain>/<path>

Everything that could make two spellings of one name, or one spelling of two, is refused: upper case in the domain, percent
signs, ports, users, queries, empty or dotted segments, a slash at the end, anything outside ASCII.
"""

from __future__ import annotations

import re

import msgspec

from keyclave.core.errors import Malformed

SCHEME = "spiffe://"
LONGEST = 2048  # bytes of an ID
LONGEST_DOMAIN = 255
_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_ALL = "/*"


class SpiffeId(msgspec.Struct, frozen=True):
    """A trust domain and a path; the path begins with a slash, or is empty for the trust domain itself."""

    domain: str
    path: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.domain}{self.path}"


def parse_id(text: str) -> SpiffeId:
    """Return the ID that `text` spells, or raise `Malformed`."""
    if len(text) > LONGEST or not text.startswith(SCHEME):
        raise _wrong("it begins with spiffe:// and has at most 2048 characters")
    domain, slash, path = text[len(SCHEME) :].partition("/")
    check_domain(domain)
    if not slash:
        return SpiffeId(domain, "")
    for segment in path.split("/"):
        if not _SEGMENT.fullmatch(segment) or segment in (".", ".."):
            raise _wrong("the segments of its path are letters, digits, dots, dashes and underscores, and none is empty, . or ..")
    return SpiffeId(domain, "/" + path)


def parse_workload(text: str) -> SpiffeId:
    """Return the ID of a workload: one with a path (X509-SVID section 4.1: only signing certificates may go without)."""
    found = parse_id(text)
    if not found.path:
        raise _wrong("a workload's name has a path behind the trust domain")
    return found


def check_domain(domain: str) -> None:
    """Refuse what is no trust domain."""
    if not _DOMAIN.fullmatch(domain):
        raise _wrong("the trust domain is of lower-case letters, digits, dots, dashes and underscores, at most 255")


def check_pattern(text: str) -> str:
    """Return a pattern, the ID itself or an ID with `/*` behind it, after checking its form."""
    if text.endswith(_ALL):
        parse_id(text[: -len(_ALL)])
    else:
        parse_workload(text)
    return text


def covers(pattern: str, name: str) -> bool:
    """Tell whether a checked pattern covers a checked ID. `/*` stands for one or more whole segments."""
    if pattern.endswith(_ALL):
        return name.startswith(pattern[:-1]) and len(name) > len(pattern) - 1
    return pattern == name


def _wrong(rule: str) -> Malformed:
    return Malformed("this is no SPIFFE ID", rule)
