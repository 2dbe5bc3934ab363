"""Reading the record: events, receipts, and the log's checkpoint, keys and tiles as bytes for any C2SP tlog-tiles verifier."""

from __future__ import annotations

import time
from collections.abc import Iterator
from urllib.parse import quote

from keyclave_client.answers import decode, from_base64, part
from keyclave_client.errors import KeyclaveError
from keyclave_client.transport import Request, Transport
from keyclave_client.views import LoggedEvent, LogKeys, Receipt

_PLACED_SECONDS = 10.0
_ASKED_AGAIN = 0.2


class Record:
    """The log and the audit events. Checkpoint and keys need no credential; the rest is for auditors."""

    _transport: Transport

    def checkpoint(self) -> bytes:
        """Return the newest signed checkpoint, exactly as served (C2SP tlog-checkpoint)."""
        return self._bytes("/v1/log/checkpoint")

    def log_keys(self) -> LogKeys:
        """Return the log's origin and verifier keys. Trust them on first use only, or compare with a copy kept apart."""
        return decode(LogKeys, self._transport.json(Request("GET", "/v1/log/keys", repeatable=True)))

    def tile(self, level: int, index: int, width: int | None = None) -> bytes:
        """Return a Merkle tree tile; `width` (1-255) asks for a partial one."""
        return self._bytes(f"/v1/log/tile/{level}/{tile_path(index, width)}")

    def entries(self, index: int, width: int | None = None) -> bytes:
        """Return an entry bundle: up to 256 leaves, each behind its length (2 bytes, big-endian)."""
        return self._bytes(f"/v1/log/tile/entries/{tile_path(index, width)}")

    def events(
        self, start: int = 0, *, key: str | None = None, actor: str | None = None, operation: str | None = None,
        outcome: str | None = None, grant: str | None = None, page: int = 500,
    ) -> Iterator[LoggedEvent]:  # fmt: skip
        """Yield events from log index `start` on, those of one key id, actor, operation, outcome or grant (or elevation) if
        asked."""
        query = {"key": key, "actor": actor, "operation": operation, "outcome": outcome, "grant": grant}
        wanted = {name: value for name, value in query.items() if value is not None}
        at: int | None = start
        while at is not None:
            got = self._transport.json(
                Request("GET", "/v1/audit/events", query={**wanted, "from": str(at), "limit": str(page)}, repeatable=True)
            )
            for item in part(got, "events"):
                fields = {name: value for name, value in item.items() if name != "index"} if isinstance(item, dict) else None
                yield decode(LoggedEvent, {**item, "leaf": fields} if fields is not None else item)
            at = got.get("next")

    def receipt(self, event: str) -> Receipt:
        """Return an event's leaf and its inclusion proof.

        Among many nodes an event is durable a moment before it has its place: until it has, this asks again, for up to ten
        seconds.
        """
        path = f"/v1/audit/receipts/{quote(event, safe='')}"
        deadline = time.monotonic() + _PLACED_SECONDS
        while True:
            got = self._transport.json(Request("GET", path, repeatable=True))
            if not isinstance(got, dict) or got.get("promised") is not True:
                return _of(event, decode(Receipt, got))
            if time.monotonic() > deadline:
                raise KeyclaveError("the event is durable, and has no place in the log yet", "ask for its receipt again later")
            time.sleep(_ASKED_AGAIN)

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Return the proof (RFC 6962, 2.1.2) that the log of size `new` extends the one of size `old`."""
        query = {"from": str(old), "to": str(new)}
        got = self._transport.json(Request("GET", "/v1/audit/consistency", query=query, repeatable=True))
        return [from_base64(node) for node in part(got, "proof")]

    def _bytes(self, path: str) -> bytes:
        return self._transport.send(Request("GET", path, repeatable=True)).content


def _of(event: str, receipt: Receipt) -> Receipt:
    """Return the receipt if it is that of `event`: any other one would prove something else, and prove it well."""
    if receipt.event != event:
        raise KeyclaveError(
            f"the server answered with the receipt of {receipt.event}, and was asked for that of {event}",
            "tell the auditors, and keep both names: this answer proves nothing about your event",
        )
    return receipt


def tile_path(index: int, width: int | None = None) -> str:
    """Return a tile's index as C2SP tlog-tiles writes it: groups of three digits, all but the last behind an x: x001/x234/067."""
    digits = str(index)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    path = "/".join(["x" + group for group in groups[:-1]] + groups[-1:])
    return path if width is None else f"{path}.p/{width}"
