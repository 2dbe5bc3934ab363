"""Connections that make keys, one after the other or together."""

from __future__ import annotations

import json
from typing import Any

from keyclave.app import wiring
from keyclave.operations.sealing_reasons import Why
from tests.protocols.clocked import House
from tests.protocols.repeating import Connection

CREATE = "/v1/keys"
KINDS: list[dict[str, Any]] = [
    {}, {"spec": "aes-256", "tags": {"b": "2", "a": "tr\u00e4ger"}}, {"spec": "hmac-sha-256", "purpose": "mac"},
    {"cryptoperiod": {"protect_days": 3, "process_days": 9}}, {"rotation": {"every_days": 9, "reason": "risk"}},
    {"activate": False}, {"stale_ok": True}, {"classification": "PII", "environment": "test"},
    {"spec": "ed25519", "purpose": "sign"}, {"spec": "hmac-sha-512", "purpose": "mac"},
    {"environment": '"100 %d" \\ %b \u2203', "tags": {"%s": '"event":"@"'}},
]  # fmt: skip


def line_of(house: House, who: str = "custodian", **headers: str) -> Connection:
    return Connection(house, house.server.tokens.get(who, who), CREATE, "", **headers)


def body(name: str, **more: Any) -> bytes:
    return json.dumps({"name": name, "owner": "cardiology", **more}).encode()


def seal(house: House) -> None:
    house.server.desk.let_go(Why.SEALED)


def reopened(house: House) -> None:
    seal(house)
    wiring._open_development_root(house.server.desk, house.server.home)
