"""The three kinds of calls that every part of the client is made of: reading, paging, changing once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from keyclave_client.answers import part
from keyclave_client.transport import Request, Transport


class Calls:
    """Reads and changes over one transport."""

    _transport: Transport

    def _read(self, path: str, query: Mapping[str, str | None] | None = None) -> Any:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return self._transport.json(Request("GET", path, query=given, repeatable=True))

    def _pages(self, path: str, field: str, query: Mapping[str, str | None]) -> Iterator[Any]:
        cursor: str | None = None
        while True:
            page = self._read(path, {**query, "cursor": cursor})
            yield from part(page, field)
            cursor = page.get("next")
            if not cursor:
                return

    def _change(self, method: str, path: str, body: Mapping[str, Any], **how: Any) -> Any:
        """Send a change; `how`: dry_run, idempotency_key, if_match."""
        given = {name: dict(value) if isinstance(value, Mapping) else value for name, value in body.items() if value is not None}
        key = how.get("idempotency_key") or str(uuid.uuid4())
        query = {"dry_run": "true"} if how.get("dry_run") else None
        return self._transport.json(Request(method, path, given, query, idempotency_key=key, if_match=how.get("if_match")))
