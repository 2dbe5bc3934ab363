"""Answers kept under idempotency keys, as rows. No rule is decided here."""

from __future__ import annotations

from sqlalchemy import Connection, select

from keyclave.store import schema as s

IDEMPOTENCY_KEPT = 86_400 * 1_000_000  # microseconds: a day, longer than any client retries


def read_idempotent(conn: Connection, tenant: str, principal: str, key: str) -> tuple[bytes, bytes] | None:
    """Return (request digest, sealed response) kept under an idempotency key, or None."""
    c = s.idempotency.c
    query = select(c.request, c.response).where(c.tenant == tenant, c.principal == principal, c.key == key)
    row = conn.execute(query).first()
    return None if row is None else (row.request, row.response)


def keep_idempotent(conn: Connection, tenant: str, principal: str, key: str, request: bytes, response: bytes, at: int) -> None:
    """Keep a sealed response under an idempotency key; keys older than `IDEMPOTENCY_KEPT` are dropped on the way."""
    conn.execute(s.idempotency.delete().where(s.idempotency.c.created_at < at - IDEMPOTENCY_KEPT))
    row = {"tenant": tenant, "principal": principal, "key": key, "request": request, "response": response, "created_at": at}
    conn.execute(s.idempotency.insert(), row)
