"""A record that was set back: the database lost its end and is whole in itself. The home has seen more of it signed, and says so."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from keyclave.app import newest, wiring
from keyclave.app.newest import Newest
from keyclave.core.errors import Broken
from tests.failure.test_tamper_live import served
from tests.live import Live, launch
from tests.store.inside import Inside, ceremony, open_inside, two_inside

pytestmark = [
    pytest.mark.requirement("R5", "R40", "P2"),
    pytest.mark.file_store("an older copy of the file in its place; the home's own file is the same on both"),
]
PAGE = 4096


def grow(inside: Inside, count: int = 3) -> None:
    """Leave events, signed."""
    for _ in range(count):
        inside.get("whoami", "custodian")
    inside.desk.log.tick()


def kept(inside: Inside) -> None:
    """Keep the newest checkpoint as the server does each second."""
    Newest(inside.home).keep(inside.desk.log.checkpoint)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, list[str], dict[str, str]]:
    return ceremony(tmp_path)


# ---- what is refused ------------------------------------------------------------------------------------------------------
def test_an_older_copy_in_the_databases_place_is_refused_with_what_is_missing(
    made: tuple[Path, list[str], dict[str, str]],
) -> None:
    home, shares, tokens = made
    with open_inside(home, shares, tokens) as inside:
        grow(inside)
        kept(inside)
        size = inside.desk.log.size
    older = (home / "keyclave.db").read_bytes()
    with open_inside(home, shares, tokens) as inside:
        grow(inside, 7)
        kept(inside)
        lost = inside.desk.log.size - size
    for name in ("keyclave.db-wal", "keyclave.db-shm"):
        (home / name).unlink(missing_ok=True)
    (home / "keyclave.db").write_bytes(older)
    with (
        pytest.raises(Broken, match=rf"ends at {size} events, .* seen {size + lost} .* the last {lost} ") as refused,
        open_inside(*made),
    ):
        pass
    assert "restore the newest copy" in refused.value.hint
    assert str(home / newest.FILE) in refused.value.hint
    (home / newest.FILE).rename(home.parent / "evidence")
    with open_inside(home, shares, tokens) as inside:  # set back on purpose, and grown past what was lost
        grow(inside, 3 * lost)
    (home.parent / "evidence").rename(home / newest.FILE)
    with pytest.raises(Broken, match="not those that this home has seen signed"), open_inside(*made):
        pass


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no empty line"),
        (b"\xff\xfe", "decode"),
        (b"keyclave.localhost/log\n1\n", "no empty line"),
        (b"a\n\n" + b"x" * 300_000, "is not a checkpoint"),
        ("of another log", "not sign it|no keys of the log"),
        ("one letter changed", "not sign it|spare|not base64"),
        (None, "directory"),
    ],
)
def test_what_is_no_checkpoint_of_this_record_is_refused(
    made: tuple[Path, list[str], dict[str, str]], tmp_path: Path, content: bytes | str | None, why: str
) -> None:
    home, shares, tokens = made
    other = ceremony(tmp_path / "other", another=True) if content == "of another log" else made
    with open_inside(*other) as inside:
        grow(inside)
        kept(inside)
    note = (other[0] / newest.FILE).read_bytes()
    (home / newest.FILE).unlink(missing_ok=True)
    if content is None:
        (home / newest.FILE).mkdir()
    elif isinstance(content, bytes):
        (home / newest.FILE).write_bytes(content)
    elif content == "of another log":
        (home / newest.FILE).write_bytes(note)
    else:
        at = note.rindex(b"A")
        (home / newest.FILE).write_bytes(note[:at] + b"B" + note[at + 1 :])
    with pytest.raises(Broken, match=why) as refused, open_inside(home, shares, tokens):
        pass
    assert "is not a checkpoint of this home's record" in refused.value.detail
    assert "move the file out of the home" in refused.value.hint


def test_kept_hashes_that_are_not_those_of_the_events_are_refused_where_nothing_is_signed_yet(
    made: tuple[Path, list[str], dict[str, str]],
) -> None:
    home, shares, tokens = made
    with open_inside(home, shares, tokens, unseal=False) as inside:
        for _ in range(600):
            inside.get("whoami", "custodian")
    with closing(sqlite3.connect(home / "keyclave.db", isolation_level=None)) as conn:
        assert conn.execute("SELECT count(*) FROM checkpoints").fetchone() == (0,)
        conn.execute("DROP TRIGGER log_tiles_no_update")
        conn.execute("UPDATE log_tiles SET hashes = zeroblob(8192) WHERE level = 0 AND number = 1")
    with pytest.raises(Broken, match="tile 1 of level 0 does not hold the hashes of its events"), open_inside(*made):
        pass


# ---- what is not ----------------------------------------------------------------------------------------------------------
def test_a_home_without_the_file_is_served(made: tuple[Path, list[str], dict[str, str]]) -> None:
    with open_inside(*made) as inside:
        grow(inside)
    assert not (made[0] / newest.FILE).exists()
    with open_inside(*made):
        pass


def test_another_worker_that_signs_while_one_starts_is_no_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., wiring.Log] = wiring.Log
    with two_inside(tmp_path) as (one, _):
        grow(one)
        kept(one)

        def slow(*arguments: object) -> wiring.Log:
            made = real(*arguments)
            one.desk.log.refresh()
            grow(one)
            kept(one)
            return made

        monkeypatch.setattr(wiring, "Log", slow)
        with open_inside(one.home, one.shares, one.tokens, shared=True):
            pass


# ---- the file -------------------------------------------------------------------------------------------------------------
def test_only_a_newer_one_takes_its_place_whole_and_for_the_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / newest.FILE
    (tmp_path / "newest.part").write_bytes(b"x" * 9000)  # of one that was killed
    one = Newest(tmp_path)
    one.keep(None)
    assert not file.exists()
    for size, expected in ((5, "five"), (4, "five"), (5, "five"), (6, "six")):
        one.keep((size, bytes(32), {4: "four", 5: "five" if expected == "five" else "", 6: "six"}[size]))
        assert file.read_text() == expected
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [newest.FILE]


def test_a_disk_that_does_not_take_it_is_said_once_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = tmp_path / "home"
    one = Newest(home)
    for size in (1, 2, 3):
        one.keep((size, bytes(32), "note"))
    assert [record.message for record in caplog.records] == [f"{home / newest.FILE} cannot be written: No such file or directory"]
    home.mkdir()
    one.keep((3, bytes(32), "note"))
    assert (home / newest.FILE).read_text() == "note"


# ---- a real server --------------------------------------------------------------------------------------------------------
@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    live = launch(tmp_path)
    yield live
    if live.process.poll() is None:
        live.stop()


def test_a_server_that_was_killed_finds_its_record_as_long_as_it_was_signed(live: Live) -> None:
    live.create_key("k")
    until_seen(live, live.get("/v1/status").json()["log"]["size"])
    live.kill()
    live.restart()
    assert live.get("/v1/keys/k", live.tokens["custodian"]).status_code == 200


def test_a_page_that_breaks_in_the_write_ahead_log_loses_keys_and_the_server_says_so(live: Live) -> None:
    """SQLite takes a frame whose checksum does not hold for the end of the log, and what comes after it for never written."""
    for number in range(5):
        live.create_key(f"k{number}")
    until_seen(live, live.get("/v1/status").json()["log"]["size"])
    live.kill()
    log = live.home / "keyclave.db-wal"
    frames = bytearray(log.read_bytes())
    middle = 32 + (len(frames) - 32) // (PAGE + 24) // 2 * (PAGE + 24) + 1000
    frames[middle] ^= 1
    log.write_bytes(frames)
    code, said = served(live)
    assert code == 1
    assert "gone from the database" in said
    assert "Traceback" not in said
    with closing(sqlite3.connect(live.home / "keyclave.db")) as conn:  # which is whole in itself
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_server_that_ends_leaves_the_last_checkpoint(live: Live) -> None:
    live.create_key("k")
    live.end()
    lines = (live.home / newest.FILE).read_text().split("\n")
    with closing(sqlite3.connect(live.home / "keyclave.db")) as conn:
        assert conn.execute("SELECT max(first + count) FROM segments").fetchone() == (int(lines[1]),)


def until_seen(live: Live, size: int) -> None:
    """Wait until the home has seen so much of the record signed."""
    deadline = time.monotonic() + 30
    while int((live.home / newest.FILE).read_text().split("\n")[1] if (live.home / newest.FILE).exists() else 0) < size:
        assert time.monotonic() < deadline
        time.sleep(0.05)
