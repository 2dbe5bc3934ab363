"""One event: who did what, why, with which outcome. spec/events.md is the law; the encoding is RFC 8785 canonical JSON.

The fields are declared in the order of their names, absent ones are left out, numbers are whole and under 2^53, and the names
inside `detail` and `context` are ASCII and sorted: so msgspec's encoding is the canonical one (a property test compares it with
an independent RFC 8785 implementation).
"""

from __future__ import annotations

import msgspec


class Event(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True, gc=False):
    """A leaf of the log.

    `outcome` is "ok" or the code of the error. `context` maps each name of the encryption context to its recorded values: keyed
    hashes (`h:` and 22 characters of base64url), or the value itself (`p:`) for names that policy marks as plain.
    """

    actor: str
    approval: str = ""
    at: int  # microseconds since the epoch
    context: dict[str, list[str]] | None = None
    count: int = 1  # items of a batch
    credential: str = ""
    detail: dict[str, str | int] | None = None
    failed: int = 0  # items of a batch that failed
    grant: str = ""
    how: str = ""
    id: str
    key: str = ""
    op: str
    outcome: str
    part: int = 0  # an attempt with too many context values for one event leaves several: 1, 2, …
    policy: str = ""
    purpose: str = ""
    reason: str = ""
    role: str = ""
    source: str = ""
    stale: int = 0  # made while the database was away: milliseconds since the node last asked what others changed
    tenant: str = ""
    version: int = 0


encode = msgspec.json.Encoder().encode  # dictionaries come sorted: sorting again would cost a microsecond an event
decode = msgspec.json.Decoder(Event).decode
