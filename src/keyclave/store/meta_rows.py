"""The store's own settings: names and values. No rule is decided here."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select, text, update

from keyclave.store import schema as s

_META_GET = select(s.meta.c.value).where(s.meta.c.name == bindparam("name"))
_META_KEEP = text("INSERT INTO meta (name, value) VALUES (:name, :value) ON CONFLICT DO NOTHING")


def read_meta(conn: Connection, name: str) -> bytes | None:
    """Return a value of the store's own settings, or None."""
    return conn.execute(_META_GET, {"name": name}).scalar_one_or_none()


def write_meta(conn: Connection, name: str, value: bytes) -> None:
    """Keep a setting; one that exists is replaced."""
    if conn.execute(update(s.meta).where(s.meta.c.name == name).values(value=value)).rowcount == 0:
        conn.execute(s.meta.insert(), {"name": name, "value": value})


def keep_meta(conn: Connection, name: str, value: bytes) -> bytes:
    """Keep a setting unless it exists; return what is kept."""
    conn.execute(_META_KEEP, {"name": name, "value": value})
    return bytes(conn.execute(_META_GET, {"name": name}).scalar_one())
