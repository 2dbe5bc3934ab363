"""Proof of the ground alone: what a planned switch, a killed primary and a lost member do to a plain writer, counted row by row."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

from drill.ha.ground import SMALL, Ground
from drill.ha.process import wait_for
from drill.ha.writer import Writer

_ROWS = 200  # that must be written before and after each event


def prove_ground(ground: Ground) -> Iterator[dict[str, object]]:
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
        yield _held(ground, name, event)


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
        "duplicates": twice,
        "unknown": len(written.unknown),
        "unknown_but_present": len([n for n in written.unknown if n in present]),
        "seconds_to_serve": round(written.longest_gap(began), 2),
        "write_p50_ms": round(1000 * statistics.median(latencies), 2),
        "write_p99_ms": round(1000 * latencies[int(len(latencies) * 0.99)], 2),
        "ok": not lost and not twice,
    }
