"""The ceremony killed before every line that makes the home: what it leaves is whole, or refused with a sentence that says what
to do.

Each death is a child of this process that holds the real ceremony and kills itself with SIGKILL before a line: each line that it
reaches for the first time, and each line of the function that writes a file, every time. What is left is then opened as the
server would open it.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from keyclave.app import ceremony, hand_over
from keyclave.app.__main__ import main
from keyclave.app.config import load
from keyclave.core.errors import KeyclaveError
from keyclave.store import migrations, sqlite
from keyclave.store.embedded import file, line
from tests.store.inside import open_inside

FILES = (ceremony.__file__, hand_over.__file__)
FUNCTIONS = {(file.__file__, "create"), (line.__file__, "write"), (sqlite.__file__, "close")}
EVERY_TIME = "_write"


@cache
def _ready() -> bytes:
    """Return what the migrations make, once for all: they are one statement of ours, and take longer than everything else."""
    with tempfile.NamedTemporaryFile() as file:
        migrations.upgrade(lambda: sqlite3.connect(file.name))
        with closing(sqlite3.connect(file.name)) as made:
            return made.serialize()


def _ceremony(folder: Path, die_at: int) -> int:
    """Hold the ceremony in a child that dies before its `die_at`-th line (0: never); return the lines it ran, -1 if killed."""
    _ready()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os._exit(_hold(folder, die_at, writing))
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        lines = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return -1
    assert os.WEXITSTATUS(status) == 0
    return int(lines)


def _hold(folder: Path, die_at: int, writing: int) -> int:
    ran = 0
    seen: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal ran
        code = frame.f_code
        if code.co_filename not in FILES and (code.co_filename, code.co_name) not in FUNCTIONS:
            return None
        place = (code.co_filename, frame.f_lineno)
        if event == "line" and (place not in seen or code.co_name == EVERY_TIME):
            seen.add(place)
            ran += 1
            if ran == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    def untraced(connect: Callable[[], sqlite3.Connection]) -> None:  # its lines are Alembic's: one statement of ours
        sys.settrace(None)
        with closing(sqlite3.connect(":memory:")) as ready, closing(connect()) as conn:
            ready.deserialize(_ready())
            ready.backup(conn)
        sys.settrace(trace)

    migrations.upgrade = untraced
    sys.settrace(trace)
    code = main(["init", "--home", str(folder / "home"), "--people", "tokens", "--out-json", str(folder / "made.json")])
    sys.settrace(None)
    os.write(writing, str(ran).encode())
    return code


def _verdict(folder: Path) -> str:
    """Open what the ceremony left as the server does: "whole", or the sentence with which it is refused."""
    home = folder / "home"
    try:
        load(home)
    except KeyclaveError as error:
        assert error.hint
        return error.detail
    made = json.loads((folder / "made.json").read_text())
    with open_inside(home, made["shares"], dict(made["credentials"])) as inside:
        inside.get("key-create", "custodian", "", {"name": "first", "owner": "o"})
        token = inside.application(["encrypt", "decrypt"], ["first"])
        sealed = inside.get("encrypt", token, "first", {"plaintext": "cmVjb3Jk"})
        assert inside.get("decrypt", token, "first", {"ciphertext": sealed["ciphertext"]})["plaintext"] == "cmVjb3Jk"
    return "whole"


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> int:
    folder = tmp_path_factory.mktemp("undisturbed")
    count = _ceremony(folder, 0)
    assert _verdict(folder) == "whole"
    return count


@pytest.mark.requirement("R16")
def test_a_ceremony_killed_at_any_line_leaves_a_whole_home_or_none(lines: int, tmp_path: Path) -> None:
    assert lines > 80
    verdicts: dict[str, int] = {}
    for die_at in range(1, lines + 1, 1 if os.environ.get("CI") else 4):
        folder = tmp_path / str(die_at)
        folder.mkdir()
        assert _ceremony(folder, die_at) == -1
        verdict = _verdict(folder).replace(str(folder), "…")
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
        if verdict != "whole":
            _is_not_mistaken_for_a_new_one(folder)
    assert set(verdicts) <= {"whole", "there is no keyclave.toml in …/home"}


def _is_not_mistaken_for_a_new_one(folder: Path) -> None:
    """A second ceremony never takes over what a dead one left, except where nothing was made yet."""
    home = folder / "home"
    before = sorted(p.name for p in home.rglob("*")) if home.exists() else []
    if before:
        with pytest.raises(KeyclaveError, match="is not empty"):
            ceremony.hold(home, ceremony.Wishes(2, 3, False, "127.0.0.1", 8443, "example.org/log", ()))
        assert sorted(p.name for p in home.rglob("*")) == before


def test_shares_that_have_nowhere_to_go_are_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = tmp_path / "made.json"
    taken.write_text("somebody's")
    assert main(["init", "--home", str(tmp_path / "home"), "--out-json", str(taken)]) == 1
    said = capsys.readouterr().err
    assert str(taken) in said
    assert "→" in said
    assert taken.read_text() == "somebody's"
    assert not (tmp_path / "home").exists()
