"""What events are looked for by: a wrong filter finds nothing, and nothing found must not be taken for nothing done."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from keyclave_cli.problems import USAGE, Stop

if TYPE_CHECKING:
    from keyclave_client import Client

_NOT_ASKED_FOR = frozenset(
    {"authenticate", "elevation-end", "login", "node-unseal", "review-overdue", "spool-place", "unseal"}
)  # in the record, and no operation of the API: spec/events.md


def key_id(client: Client, key: str) -> str:
    """Return the id under which the record has a key."""
    from keyclave_client.errors import Unknown

    try:
        return client.get_key(key).id
    except Unknown:
        raise Stop(f"there is no key {key}", "see `keyclave key list`; the record names keys by their ids") from None


def check_operation(client: Client, operation: str) -> None:
    """Refuse the name of an operation that there is not, naming those that may have been meant."""
    known = _NOT_ASKED_FOR | set(_operations(client.openapi()))
    if operation in known:
        return
    near = ", ".join(difflib.get_close_matches(operation, sorted(known), 4)) or "see x-operation in `keyclave openapi`"
    raise Stop(f"there is no operation {operation}", f"did you mean: {near}", USAGE)


def _operations(described: Any) -> list[str]:
    ways = [way for path in described.get("paths", {}).values() for way in path.values()]
    return [way["x-operation"] for way in ways if isinstance(way, dict) and "x-operation" in way]
