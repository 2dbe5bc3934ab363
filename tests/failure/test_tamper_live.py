"""The database of a live server tampered with on the disk, by somebody who may do anything to the file: the server does not serve
what was signed otherwise, and an auditor's export names it.

The attacker drops the guards first: they keep programs from mistakes, not thieves from the file. What stops him are checkpoints.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from drill.evidence import Auditor
from drill.load import Kept
from drill.result import Result
from keyclave.app import newest
from keyclave_verify.checkpoints import load_trust, parse_checkpoint
from tests.live import ENVIRONMENT, Live, launch

pytestmark = [
    pytest.mark.requirement("R5", "R7", "R40", "P2"),
    pytest.mark.file_store("the file in the hands of a thief, who changes it row by row"),
]
EVENTS = 300  # over a tile: some of what is tampered with lies under stored tiles, some under none


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A stopped server with a history, whose checkpoint an auditor keeps."""
    live = launch(tmp_path_factory.mktemp("tampered"))
    live.create_key("k")
    token = live.token(["encrypt"], ["k"])
    for _ in range(3):
        early = live.post("/v1/keys/k/encrypt/batch", token, {"items": [{"plaintext": "cmVjb3Jk"}] * 10}).json()["event"]
    assert live.get(f"/v1/audit/receipts/{early}", token).status_code == 200  # a checkpoint is signed for it
    for _ in range(EVENTS):
        live.get("/v1/whoami", token)
    event = live.get("/v1/whoami", token).json()["event"]
    assert live.get(f"/v1/audit/receipts/{event}", token).status_code == 200
    (live.home.parent / "pinned.json").write_text(live.get("/v1/log/keys").text)
    (live.home.parent / "kept").write_bytes(live.get("/v1/log/checkpoint").content)
    live.kill()
    yield live
    live.stop()


@pytest.fixture
def live(made: Live, tmp_path: Path) -> Iterator[Live]:
    """A copy of that home for each test, with the same people, keys and checkpoint kept."""
    shutil.copytree(made.home, tmp_path / "home")
    for name in ("pinned.json", "kept"):
        shutil.copy(made.home.parent / name, tmp_path / name)
    copy = replace(made, home=tmp_path / "home")
    yield copy
    if copy.process.poll() is None:
        copy.kill()


def tamper(live: Live, act: Callable[[sqlite3.Connection], object]) -> None:
    """Change the file as its thief would."""
    with closing(sqlite3.connect(live.home / "keyclave.db", isolation_level=None)) as conn:
        for (name,) in list(conn.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")):
            conn.execute(f"DROP TRIGGER {name}")
        act(conn)


def served(live: Live) -> tuple[int, str]:
    """Start the server; return the exit code and what it said if it does not serve, or (0, "")."""
    command = [sys.executable, "-m", "keyclave.app", "serve", "--home", str(live.home), "--port", str(live.port)]
    try:
        ended = subprocess.run(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, timeout=4, check=False)
    except subprocess.TimeoutExpired:
        return 0, ""
    return ended.returncode, ended.stderr.decode()


def flip(conn: sqlite3.Connection, first: int) -> None:
    """Change one letter inside an event of the segment that begins at or before `first`."""
    number, entries = conn.execute(
        "SELECT first, entries FROM segments WHERE first <= ? ORDER BY first DESC LIMIT 1", (first,)
    ).fetchone()
    at = entries.rindex(b'"op":"') + 6
    conn.execute("UPDATE segments SET entries = ? WHERE first = ?", (entries[:at] + b"X" + entries[at + 1 :], number))


def swap(conn: sqlite3.Connection) -> None:
    rows = list(conn.execute("SELECT first, entries FROM segments WHERE count = 1 ORDER BY first DESC LIMIT 2"))
    conn.execute("UPDATE segments SET entries = ? WHERE first = ?", (rows[1][1], rows[0][0]))
    conn.execute("UPDATE segments SET entries = ? WHERE first = ?", (rows[0][1], rows[1][0]))


def last(conn: sqlite3.Connection, change: str) -> None:
    """Change the last row of the log."""
    conn.execute(f"UPDATE segments SET {change} WHERE first = (SELECT max(first) FROM segments)")


BEFORE_START: dict[str, Callable[[sqlite3.Connection], object]] = {
    "a late event changed": lambda conn: flip(conn, EVENTS - 5),
    "the tail cut off": lambda conn: conn.execute("DELETE FROM segments WHERE first >= 280"),
    "everything gone": lambda conn: conn.execute("DELETE FROM segments"),
    "two events exchanged": swap,
    "a stored tile changed": lambda conn: conn.execute("UPDATE log_tiles SET hashes = zeroblob(8192)"),
    "a stored tile gone": lambda conn: conn.execute("DELETE FROM log_tiles"),
    "a checkpoint's root changed": lambda conn: conn.execute("UPDATE checkpoints SET root = zeroblob(32)"),
    "a checkpoint's note changed": lambda conn: conn.execute("UPDATE checkpoints SET note = 'garbage'"),
    "a checkpoint's size changed": lambda conn: conn.execute("UPDATE checkpoints SET size = -size"),
    "hashes of events that never were": lambda conn: conn.execute("INSERT INTO log_tiles VALUES (0, 1, zeroblob(8192))"),
    "hashes of hashes that never were": lambda conn: conn.execute("INSERT INTO log_tiles VALUES (2, 0, zeroblob(8192))"),
    "one event more than there is": lambda conn: last(conn, "count = count + 1"),
    "many events more than there are": lambda conn: last(conn, "count = count + 1000"),
    "a gap": lambda conn: last(conn, "first = first + 50"),
    "an empty row": lambda conn: last(conn, "entries = x''"),
    "a row of a journal that is not there": lambda conn: last(conn, "entries = NULL, node = 'zz', node_first = 0"),
    "a row of text": lambda conn: last(conn, "entries = 'event'"),
    "a row that is a number": lambda conn: last(conn, "entries = 7"),
    "a byte too many": lambda conn: last(conn, "entries = CAST(entries || x'00' AS BLOB)"),
    "an event cut off": lambda conn: last(conn, "entries = substr(entries, 1, length(entries) - 1)"),
    "an event that is none": lambda conn: conn.execute(
        "INSERT INTO segments (first, count, entries) SELECT first + count, 1, x'00036e6f6e' FROM segments ORDER BY first DESC LIMIT 1"
    ),
    "a time that is none": lambda conn: conn.execute("REPLACE INTO meta VALUES ('clock.mark', 'noon')"),
    "log keys that are none": lambda conn: conn.execute("UPDATE meta SET value = '[\"a\"]' WHERE name = 'log.vkeys'"),
    "log keys that are no list": lambda conn: conn.execute("UPDATE meta SET value = 'x' WHERE name = 'log.vkeys'"),
}


@pytest.mark.parametrize("what", BEFORE_START)
def test_a_server_does_not_go_on_with_a_log_that_is_not_the_signed_one(live: Live, what: str) -> None:
    tamper(live, BEFORE_START[what])
    code, said = served(live)
    if what == "a stored tile gone":
        live.restart()  # it is made again from the events, and the root is the signed one
        assert live.get("/v1/health").json() == {"status": "ok"}
        return
    assert code == 1, said
    assert "keep the database as evidence" in said
    assert "Traceback" not in said


def test_an_untouched_one_does(live: Live) -> None:
    live.restart()
    assert live.get("/v1/health").json() == {"status": "ok"}


def export(live: Live, folder: Path) -> Result:
    """Export and verify as the auditor who kept keys and a checkpoint from before."""
    trust = load_trust((live.home.parent / "pinned.json").read_text(), "pinned")
    auditor, result = Auditor(live, folder, trust), Result("export")
    auditor._seen = (live.home.parent / "kept").read_bytes()
    auditor.export()
    auditor.verify(result)
    auditor.extends(Kept(""), result)
    return result


def test_an_early_event_changed_under_its_tile_is_named_by_the_auditor(live: Live, tmp_path: Path) -> None:
    """The start reads what no stored tile covers; the rest is for whoever verifies."""
    tamper(live, lambda conn: flip(conn, 20))
    live.restart()
    result = export(live, tmp_path / "export")
    assert any("does not match its hash" in note for note in result.notes), result.notes


def test_events_cut_off_together_with_their_checkpoints_are_missed_by_whoever_kept_one(live: Live, tmp_path: Path) -> None:
    """The one thing the server alone cannot know: an older state of its whole home. A checkpoint kept elsewhere tells."""

    def cut(conn: sqlite3.Connection) -> None:
        sizes = [row[0] for row in conn.execute("SELECT size FROM checkpoints WHERE size < 256 ORDER BY size DESC")]
        assert sizes
        conn.execute("DELETE FROM checkpoints WHERE size > ?", (sizes[0],))
        conn.execute("DELETE FROM segments WHERE first >= ?", (sizes[0],))
        conn.execute("DELETE FROM log_tiles")

    kept = parse_checkpoint((live.home.parent / "kept").read_bytes(), "kept").size
    tamper(live, cut)
    shutil.copy(live.home.parent / "kept", live.home / newest.FILE)
    assert "this home has seen" in served(live)[1]
    (live.home / newest.FILE).unlink()
    live.restart()
    assert live.get("/v1/status").json()["log"]["size"] < kept
    result = export(live, tmp_path / "export")
    assert any("log_shortened" in note for note in result.notes), result.notes


@pytest.mark.parametrize(
    ("what", "statement"),
    [
        ("the sealed root", "UPDATE meta SET value = zeroblob(length(value)) WHERE name = 'root.sealed'"),
        ("the log's seed", "UPDATE meta SET value = zeroblob(length(value)) WHERE name = 'log.seed'"),
        ("a tenant's key", "UPDATE tenant_keys SET sealed = zeroblob(length(sealed))"),
        ("tenant keys exchanged", "UPDATE tenant_keys SET sealed = (SELECT sealed FROM tenant_keys WHERE duty = 'archive')"),
    ],
)
def test_wrapped_keys_that_were_changed_open_nothing(live: Live, what: str, statement: str) -> None:
    tamper(live, lambda conn: conn.execute(statement))
    live.restart(unseal=False)
    for share in live.shares[:2]:
        answer = live.post("/v1/unseal", body={"share": share})
    assert answer.status_code >= 400, what
    assert live.get("/v1/health").json() == {"status": "sealed"}


def test_a_key_version_moved_to_another_key_does_not_open(live: Live) -> None:
    live.restart()
    live.create_key("other")
    token = live.token(["encrypt", "decrypt"], ["k", "other"])
    live.kill()
    tamper(
        live,
        lambda conn: conn.execute(
            "UPDATE key_versions SET sealed = (SELECT sealed FROM key_versions v JOIN keys k ON k.id = v.key_id WHERE k.name = 'k') "
            "WHERE key_id = (SELECT id FROM keys WHERE name = 'other')"
        ),
    )
    live.restart()
    answer = live.post("/v1/keys/other/encrypt", token, {"plaintext": "cmVjb3Jk"})
    assert answer.status_code in (400, 500), answer.text
    assert "ciphertext" not in answer.json()
    assert live.post("/v1/keys/k/encrypt", token, {"plaintext": "cmVjb3Jk"}).status_code == 200
