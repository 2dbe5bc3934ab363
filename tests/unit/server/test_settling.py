"""What a server leaves for later when it starts, and that nothing else brings it along."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from keyclave.app import serve, settling
from keyclave.core.errors import Unavailable

SOURCE = str(Path(settling.__file__).parents[2])


def _loaded(program: str) -> set[str]:
    """Return the names of LATER, and of what only a ceremony or single sign-on needs, that a program has imported at its end."""
    program += "\nimport sys\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONPATH": SOURCE}, check=True)
    return set(run.stdout.split()) & {*settling.LATER, "alembic", "httpx", "joserfc"}


def test_a_server_starts_without_what_few_requests_ask_for() -> None:
    assert not _loaded("import keyclave.app.serve")
    assert _loaded("from keyclave.app.settling import settle; settle()") >= set(settling.LATER)


def test_a_library_that_is_missing_is_said_and_the_others_come(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(settling, "LATER", ("keyclave_has_no_such_library", "jinja2"))
    monkeypatch.delitem(sys.modules, "jinja2", raising=False)
    with caplog.at_level(logging.ERROR):
        settling.settle()
    assert "keyclave_has_no_such_library cannot be imported" in caplog.text
    assert "jinja2" in sys.modules


class House:
    """A store that says whether anybody has enrolled, or nothing at all."""

    def __init__(self, says: bool | None) -> None:
        self.says = says

    def read(self, _question: object) -> bool:
        if self.says is None:
            raise Unavailable("the database is away")
        return self.says


@pytest.mark.parametrize(("says", "imported"), [(True, 1), (False, 0), (None, 1)])
def test_only_where_somebody_may_log_in_are_they_imported_beforehand(
    says: bool | None, imported: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[int] = []
    monkeypatch.setattr(serve, "settle", lambda: times.append(1))
    house: Any = House(says)
    asyncio.run(serve._settle([], house))
    assert len(times) == imported
