"""The rows of the log beside its segments: full tiles and signed checkpoints, for every engine."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, func, select

from keyclave.store import schema as s

_TILE = select(s.log_tiles.c.hashes).where(
    s.log_tiles.c.level == bindparam("tile_level"), s.log_tiles.c.number == bindparam("tile_number")
)
Checkpoint = tuple[int, bytes, str]  # size, root, note


def read_tile(conn: Connection, level: int, number: int) -> bytes | None:
    """Return a full tile (256 hashes of 32 bytes), or None."""
    return conn.execute(_TILE, {"tile_level": level, "tile_number": number}).scalar_one_or_none()


def last_tile(conn: Connection, level: int = 0) -> int:
    """Return how many full tiles of a level are kept, by the number of the last."""
    c = s.log_tiles.c
    number = conn.execute(select(c.number).where(c.level == level).order_by(c.number.desc()).limit(1)).scalar_one_or_none()
    return 0 if number is None else int(number) + 1


def keep_tiles(conn: Connection, tiles: Mapping[tuple[int, int], bytes]) -> None:
    """Keep full tiles by (level, number); one that is there already is the same, and stays."""
    if not tiles:
        return
    if conn.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
    rows = [{"level": level, "number": number, "hashes": hashes} for (level, number), hashes in tiles.items()]
    conn.execute(insert(s.log_tiles).on_conflict_do_nothing(), rows)


def keep_checkpoint(conn: Connection, size: int, root: bytes, note: str, at: int) -> None:
    """Keep a signed checkpoint, unless another writer has kept one as large: a log's checkpoints only ever grow."""
    newest = conn.execute(select(func.max(s.checkpoints.c.size))).scalar_one()
    if newest is None or newest < size:
        conn.execute(s.checkpoints.insert(), {"size": size, "root": root, "note": note, "created_at": at})


def last_checkpoint(conn: Connection, size: int | None = None) -> Checkpoint | None:
    """Return the newest checkpoint, or the one of that size."""
    c = s.checkpoints.c
    query = select(c.size, c.root, c.note).order_by(c.size.desc()).limit(1)
    row = conn.execute(query if size is None else query.where(c.size == size)).first()
    return None if row is None else (row.size, row.root, row.note)


def last_signed_at(conn: Connection) -> int:
    """Return the date of the newest checkpoint, in microseconds; 0 where there is none."""
    c = s.checkpoints.c
    return conn.execute(select(c.created_at).order_by(c.size.desc()).limit(1)).scalar_one_or_none() or 0


def checkpoint_sizes(conn: Connection, after: int, limit: int) -> list[int]:
    """Return the sizes of kept checkpoints greater than `after`."""
    c = s.checkpoints.c
    return [row.size for row in conn.execute(select(c.size).where(c.size > after).order_by(c.size).limit(limit))]
