"""Proof of the ground alone: what a planned switch, a killed primary and a lost member do to a plain writer, counted row by row."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import psycopg

from drill.ha.ground import SMALL, Ground
from drill.ha.places import free_ports
from drill.ha.process import wait_for
from drill.ha.writer import Writer

_ROWS = 200  # that must be written before and after each event


def prove_ground(ground: Ground, only: Sequence[str] | None = None) -> Iterator[dict[str, object]]:
    """Hold the drills of the database alone; yield the row of each."""
    events: list[tuple[str, Callable[[str], None]]] = [
        ("db_switchover", lambda old: _ignore(ground.switch_over())),
        ("db_kill_primary", lambda old: ground.members[old].kill_postgres()),
        ("db_lose_member", lambda old: ground.members[old].lose(with_etcd=False)),
        ("db_lose_member_and_etcd", lambda old: ground.members[old].lose(with_etcd=True)),
    ]
    if ground.disk is not None:
        events.append(("db_disk_full", lambda old: _fill(ground)))
    for name, event in events:
        if not only or name in only:
            yield _held(ground, name, event)
    if not only or "db_restore_moment" in only:
        yield _restored(ground)


def _ignore(_: object) -> None:
    return None


def _fill(ground: Ground) -> None:
    assert ground.disk is not None
    ground.disk.fill()
    wait_for("another primary than the one with the full disk", lambda: ground.primary() not in (None, SMALL), 120)


def _held(ground: Ground, name: str, event: Callable[[str], None]) -> dict[str, object]:
    ground.wait_healthy()
    if name == "db_disk_full":
        ground.switch_over(SMALL)
        ground.wait_healthy()
    old = ground.primary()
    assert old is not None
    writer = Writer(ground.dsn())
    writer.start()
    wait_for("the writer writes", lambda: writer.count > _ROWS)
    began = time.monotonic()
    event(old)
    before = writer.count
    wait_for("another primary", lambda: ground.primary() not in (None, old), 90)
    wait_for("the writer writes again", lambda: writer.count > before + _ROWS, 90)
    written = writer.stop()
    present, twice = writer.present()
    if ground.disk is not None:
        ground.disk.free()
    ground.come_back()
    lost = [n for n in written.acknowledged if n not in present]
    latencies = sorted(written.latencies)
    return {
        "drill": name,
        "acknowledged": len(written.acknowledged),
        "lost": len(lost),
        "uses_after_revoke": 0,
        "duplicates": twice,
        "unknown": len(written.unknown),
        "unknown_but_present": len([n for n in written.unknown if n in present]),
        "seconds_to_serve": round(written.longest_gap(began), 2),
        "write_p50_ms": round(1000 * statistics.median(latencies), 2),
        "write_p99_ms": round(1000 * latencies[int(len(latencies) * 0.99)], 2),
        "ok": not lost and not twice,
    }


def _restored(ground: Ground) -> dict[str, object]:
    """A backup, rows after it, a moment, the table dropped: the moment is read back with every row acknowledged before it."""
    ground.wait_healthy()
    primary = ground.members[ground.primary() or ""]
    password = ground.passwords["superuser"]
    ground.backup.run(primary, password, "--type=full", "backup")
    writer = Writer(ground.dsn())
    writer.start()
    wait_for("the writer writes", lambda: writer.count > _ROWS)
    written = writer.stop()
    with psycopg.connect(ground.dsn(), autocommit=True) as connection:
        row = connection.execute("SELECT clock_timestamp()::text").fetchone()
        assert row is not None
        connection.execute("SELECT pg_sleep(0.01)")  # the drop is later than the moment, by the database's own clock
        connection.execute("DROP TABLE drill_rows")
        connection.execute("SELECT pg_switch_wal()")
    began = time.monotonic()
    (port,) = free_ports(1)
    server, folder = ground.backup.restore(primary, password, row[0], ground.programs.postgres, port)
    server.start()
    dsn = f"host={folder} port={port} user=postgres password={password} dbname=postgres"
    try:
        present = wait_for("the restored database serves", lambda: _rows(dsn), 120)
    finally:
        server.end()
    lost = set(written.acknowledged) - present
    return {
        "drill": "db_restore_moment",
        "acknowledged": len(written.acknowledged),
        "lost": len(lost),
        "uses_after_revoke": 0,
        "duplicates": 0,
        "seconds_to_serve": round(time.monotonic() - began, 2),
        "ok": not lost,
    }


def _rows(dsn: str) -> set[int] | None:
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            if connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
                return None
            return {row[0] for row in connection.execute("SELECT n FROM drill_rows")}
    except psycopg.OperationalError:
        return None
