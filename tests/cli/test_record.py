"""The record as it is held here: a log that is changed, cut, rolled back or exchanged after it was seen is found."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from keyclave_cli.record.export import tiles_of
from keyclave_cli.record.trust import TrustedRecord
from keyclave_verify.directory import ENTRIES
from tests.cli.conftest import introduce
from tests.cli.transcript import Prompt
from tests.live import Live, launch

pytestmark = pytest.mark.requirement("R5", "R7", "R40", "P2")


def _work(live: Live, count: int) -> None:
    for number in range(count):
        live.get("/v1/whoami", "operator", headers={"x-n": str(number)})
        live.get("/v1/keys", "auditor")


def _verify(prompt: Prompt, *arguments: str) -> tuple[int, dict[str, object]]:
    done = prompt("--profile", "auditor", "audit", "verify", "--json", *arguments)
    return done.code, json.loads(done.text)


def _export(prompt: Prompt, folder: str) -> dict[str, int]:
    done = prompt("--profile", "auditor", "audit", "export", folder, "--json")
    assert done.code == 0, done.err
    return dict(json.loads(done.text))


def _until_signed(live: Live, size: int) -> None:
    """Wait until a checkpoint covers `size` events; the server signs one a second."""
    deadline = time.monotonic() + 30
    while True:
        answer = live.get("/v1/log/checkpoint")
        if answer.status_code == 200 and int(answer.text.split("\n")[1]) >= size:
            return
        assert time.monotonic() < deadline, f"no checkpoint of {size} events: {answer.text}"
        time.sleep(0.02)  # between two looks at a condition


def test_one_changed_byte_is_found(people: Prompt) -> None:
    assert _verify(people)[0] == 0
    _export(people, "copy")
    entries = next(path for path in Path("copy/tile/entries").rglob("*") if path.is_file())
    data = bytearray(entries.read_bytes())
    at = data.index(b'"actor":"') + len(b'"actor":"')
    data[at] ^= 1
    entries.write_bytes(data)
    code, report = _verify(people, "copy")
    assert code == 1
    assert report["faults"][0]["code"] == "entry_mismatch"  # type: ignore[index]


def test_an_export_is_incremental_and_keeps_what_it_replaces(own_live: Live, prompt: Prompt) -> None:
    introduce(own_live)
    _work(own_live, 5)
    first = _export(prompt, "copy")
    _work(own_live, 200)
    _until_signed(own_live, first["size"] + 200)
    second = _export(prompt, "copy")
    assert second["size"] >= first["size"] + 200
    assert Path(f"copy/checkpoints/{first['size']}").is_file()
    third = _export(prompt, "copy")
    if third["size"] == second["size"]:
        assert third["fetched"] == 0
    assert prompt("audit", "verify", "copy", "--keys", "copy/keys").code == 0
    wanted = {tile.path for tile in tiles_of(third["size"])}
    there = {path.relative_to("copy").as_posix() for path in Path("copy/tile").rglob("*") if path.is_file()}
    assert there == wanted, "partial tiles that were outgrown are gone, and nothing else"


def test_a_log_rolled_back_is_found(own_live: Live, prompt: Prompt) -> None:
    introduce(own_live)
    own_live.kill()
    own_live.keep(Path("before"))
    own_live.restart()
    _work(own_live, 20)
    _until_signed(own_live, 20)
    assert _verify(prompt)[0] == 0
    assert prompt("--profile", "auditor", "doctor").code == 0
    own_live.kill()
    own_live.put_back(Path("before"))
    own_live.restart()
    checked = prompt("--profile", "auditor", "doctor")
    assert checked.code == 1
    assert "the tail is gone" in checked.text
    code, report = _verify(prompt)
    assert code == 1
    assert "log_shortened" in {fault["code"] for fault in report["faults"]}  # type: ignore[attr-defined]


def test_another_log_under_the_same_name_is_found(people: Prompt, live: Live, tmp_path: Path) -> None:
    assert _verify(people)[0] == 0
    folder = tmp_path / "impostor"
    folder.mkdir()
    impostor = launch(folder, another=True)
    try:
        introduce(impostor)
        done = people("--profile", "auditor", "audit", "verify")
        assert done.code == 1
        assert "shows other keys than those trusted since the first contact" in done.err
    finally:
        impostor.stop()


def test_keys_given_by_hand_are_the_only_ones_trusted(people: Prompt, live: Live) -> None:
    keys = live.get("/v1/log/keys").json()
    Path("right").write_text("\n".join(keys["vkeys"]))
    assert _verify(people, "--keys", "right")[0] == 0
    assert TrustedRecord(keys["origin"]).known_keys() is None
    Path("wrong").write_text("origin+00000000+AAAA")
    done = people("--profile", "auditor", "audit", "verify", "--keys", "wrong")
    assert done.code == 1
    assert "these verifier keys cannot be used" in done.err


def test_an_export_of_an_unknown_log_is_not_trusted_by_itself(people: Prompt) -> None:
    _export(people, "copy")
    done = people("audit", "verify", "copy")
    assert done.code == 2
    assert "no keys of the log keyclave.localhost/log are trusted here yet" in done.err


def test_a_receipt_is_verified_as_it_comes(people: Prompt, live: Live) -> None:
    live.create_key("t-receipt")
    token = json.loads(Path(".config/keyclave/profiles/app.json").read_text())["token"]
    event = live.post("/v1/random", token, {"bytes": 8}).json()["event"]
    done = people("--profile", "app", "audit", "receipt", event, "--out", "receipt.json")
    assert done.code == 0, done.err
    assert "proves that the event is in the log" in done.text
    receipt = json.loads(Path("receipt.json").read_text())
    assert receipt["event"] == event
    assert set(receipt) == {"event", "index", "leaf", "proof"}


def test_events_are_listed(people: Prompt, live: Live) -> None:
    live.create_key("t-listed")
    done = people("--profile", "auditor", "audit", "events", "--operation", "key-create", "--limit", "1000", "--json")
    assert done.code == 0, done.err
    assert {event["leaf"]["op"] for event in json.loads(done.text)} == {"key-create"}
    table = people("--profile", "auditor", "audit", "events", "--limit", "3").text.splitlines()
    assert table[0].split("\t") == ["index", "when", "who", "what", "key", "version", "outcome", "event"]
    assert len(table) == 4


@pytest.mark.parametrize(
    ("size", "files"),
    [(0, 0), (1, 2), (255, 2), (256, 3), (257, 5), (65_536, 256 + 256 + 1 + 1), (65_537, 257 + 257 + 1 + 1)],
)
def test_the_tiles_of_a_log(size: int, files: int) -> None:
    tiles = list(tiles_of(size))
    assert len(tiles) == len({tile.path for tile in tiles}) == files
    assert sum(tile.width for tile in tiles if tile.level == ENTRIES) == size
    assert sum(tile.width for tile in tiles if tile.level == 0) == size
