"""The guard of the database's disk asks for a switch where the primary's disk is short, and leaves everybody else alone."""

from __future__ import annotations

import importlib.util
import os
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from drill.ha.traffic import Seen
from tests.deploy.checking import DEPLOY


@pytest.fixture
def guard() -> ModuleType:
    """The program as it is copied to the members."""
    spec = importlib.util.spec_from_file_location("disk_guard", DEPLOY / "patroni/disk_guard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Patroni:
    """What Patroni would answer, and what it was asked."""

    def __init__(self, *, primary: bool) -> None:
        self._primary = primary
        self.asked: list[tuple[str, Any]] = []

    def ask(self, path: str, body: Any = None) -> tuple[int, str]:
        self.asked.append((path, body))
        return (200, "Successfully switched over") if body or self._primary else (503, "")


def disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_blocks=1000, f_bavail=free))


@pytest.mark.requirement("R32")
@pytest.mark.parametrize(("free", "primary", "switched"), [(49, True, True), (50, True, False), (0, False, False)])
def test_only_a_primary_with_a_short_disk_gives_its_place_away(
    guard: ModuleType, monkeypatch: pytest.MonkeyPatch, free: int, primary: bool, switched: bool
) -> None:
    disk(monkeypatch, free)
    patroni = Patroni(primary=primary)
    said = guard.look(patroni, "db1", "/data", 5.0)
    assert (("/switchover", {"leader": "db1"}) in patroni.asked) is switched
    assert bool(said) is switched


def test_a_refused_switch_is_said(guard: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, 0)
    patroni = Patroni(primary=True)
    monkeypatch.setattr(
        patroni, "ask", lambda path, body=None: (412, "no good candidates have been found") if body else (200, "")
    )
    assert "412" in guard.look(patroni, "db1", "/data", 5.0)


def test_a_gap_counts_when_it_ended_after_the_hurt() -> None:
    seen = Seen()
    assert seen.longest_gap([1.0, 9.0, 9.5, 12.0, 12.1], since=10.0) == 2.5
    assert seen.longest_gap([3.0, 1.0], since=0.0) == 2.0
    assert seen.longest_gap([], since=0.0) == 0.0
