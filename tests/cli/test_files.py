"""Files at their worst: killed runs, sources that changed, thousands of objects, a server that goes away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keyclave_cli import profiles
from keyclave_cli.files import finished
from keyclave_client import inspect_file
from tests.cli.conftest import introduce
from tests.cli.transcript import Prompt
from tests.live import ENVIRONMENT, Live

CONTEXT = ("-c", "purpose=treatment")


def _records(folder: Path, count: int, size: int = 10) -> None:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:04}.json").write_bytes(os.urandom(size))


def _same(one: Path, other: Path) -> bool:
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    return bool(names) and all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


@pytest.mark.requirement("R1", "R24")
def test_a_run_that_is_killed_leaves_whole_files_and_is_gone_on_with(people: Prompt, live: Live) -> None:
    live.create_key("t-killed")
    _records(Path("records"), 400, 30_000)
    command = [
        sys.executable,
        "-m",
        "keyclave_cli",
        "--profile",
        "app",
        "encrypt",
        "records",
        "-k",
        "t-killed",
        *CONTEXT,
        "--out",
        "sealed",
    ]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": ENVIRONMENT["PYTHONPATH"]}, stdout=subprocess.DEVNULL) as run:
        deadline = time.monotonic() + 60
        while not list(Path("sealed").glob("*.kc")) and time.monotonic() < deadline:
            time.sleep(0.001)  # between two looks at a condition
        run.send_signal(signal.SIGKILL)
    left = sorted(path.name for path in Path("sealed").iterdir())
    assert 0 < len(left) < 400
    assert {name[-3:] for name in left} == {".kc"}, "nothing half written has a name"
    assert all(inspect_file(Path("sealed") / name).plaintext_size == 30_000 for name in left)
    again = people("--profile", "app", "encrypt", "records", "-k", "t-killed", *CONTEXT, "--out", "sealed", "--json")
    assert again.code == 0
    assert json.loads(again.text)["counts"] == {"done": 400 - len(left), "already_done": len(left)}
    assert people("--profile", "app", "decrypt", "sealed", *CONTEXT, "--out", "opened", "-k", "t-killed").code == 0
    assert _same(Path("records"), Path("opened"))


@pytest.mark.requirement("R24")
def test_more_files_than_one_request_holds_are_rewrapped(people: Prompt, live: Live) -> None:
    live.create_key("t-many")
    _records(Path("records"), 1001)
    encrypt = people("--profile", "app", "encrypt", "records", "-k", "t-many", *CONTEXT, "--out", "sealed")
    assert encrypt.code == 0, encrypt.err
    assert people("--profile", "operator", "key", "rotate", "t-many").code == 0
    before = {path: path.read_bytes()[-26:] for path in Path("sealed").iterdir()}
    rewrap = people("--profile", "app", "rewrap", "sealed", *CONTEXT, "--json")
    assert json.loads(rewrap.text)["counts"] == {"done": 1001}
    assert {path: path.read_bytes()[-26:] for path in before} == before, "only headers change"
    summary = people("inspect", "sealed", "--summary", "--json")
    assert [(row["version"], row["files"]) for row in json.loads(summary.text)["versions"]] == [(2, 1001)]
    assert people("--profile", "app", "decrypt", "sealed", *CONTEXT, "--out", "opened").code == 0
    assert _same(Path("records"), Path("opened"))


def test_rewrapping_asks_once_to_learn_that_nothing_is_to_do(people: Prompt, live: Live) -> None:
    live.create_key("t-still")
    _records(Path("records"), 30)
    people("--profile", "app", "encrypt", "records", "-k", "t-still", *CONTEXT, "--out", "sealed")
    before = {path: path.stat().st_mtime_ns for path in Path("sealed").iterdir()}
    done = people("--profile", "app", "rewrap", "sealed", *CONTEXT, "--json")
    assert json.loads(done.text)["counts"] == {"already_done": 30}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    events = live.get("/v1/audit/events?operation=re-encrypt&limit=1000", "auditor").json()["events"]
    key = live.get("/v1/keys/t-still", "auditor").json()["id"]
    assert [event.get("count", 1) for event in events if event.get("key") == key] == [1]


def _sealed(people: Prompt, live: Live, key: str) -> Path:
    live.create_key(key)
    _records(Path("records"), 1)
    assert people("--profile", "app", "encrypt", "records", "-k", key, *CONTEXT).code == 0
    return Path("records/0000.json")


def _remove(people: Prompt, key: str, *context: str) -> tuple[int, str]:
    done = people("--profile", "app", "encrypt", "records/0000.json", "-k", key, *(context or CONTEXT), "--remove-source")
    return done.code, done.err


def test_a_source_stays_that_is_not_what_was_encrypted(people: Prompt, live: Live) -> None:
    source = _sealed(people, live, "t-stays")
    then = source.stat().st_mtime_ns
    source.write_bytes(bytes(10))
    os.utime(source, ns=(then, then))  # same size, not newer: from outside it looks done
    code, said = _remove(people, "t-stays")
    assert code == 1
    assert "holds something else" in said
    assert source.read_bytes() == bytes(10)


def _two_of_one_size(people: Prompt, live: Live, key: str) -> None:
    """Records of two patients, of one size and one name, as images of a series are."""
    live.create_key(key)
    for patient in ("a", "b"):
        Path(patient).mkdir()
        Path(f"{patient}/r.json").write_bytes(patient.encode() * 1000)


@pytest.mark.requirement("R1", "R24")
def test_nothing_is_called_done_that_was_done_to_another_record_or_in_another_context(people: Prompt, live: Live) -> None:
    _two_of_one_size(people, live, "t-done")

    def encrypt(patient: str, context: str) -> tuple[int, str]:
        done = people("--profile", "app", "encrypt", patient, "-k", "t-done", "-c", f"patient={context}", "--out", "sealed")
        return done.code, done.text + done.err

    assert encrypt("a", "a")[0] == 0
    assert "1 already done" in encrypt("a", "a")[1]
    for patient, context in (("b", "b"), ("b", "a"), ("a", "other")):
        code, said = encrypt(patient, context)
        assert code == 1
        assert "is not" in said and "under this key and context" in said and "already done" not in said
    then = Path("a/r.json").stat().st_mtime_ns - 10**9
    Path("a/r.json").write_bytes(b"c" * 1000)
    os.utime("a/r.json", ns=(then, then))  # put there with an older date, as `mv` and `cp -p` do
    assert encrypt("a", "a")[0] == 1


@pytest.mark.requirement("R1", "R24")
def test_what_is_there_is_called_decrypted_only_if_it_is_that_record(people: Prompt, live: Live) -> None:
    _two_of_one_size(people, live, "t-opened")
    for patient in ("a", "b"):
        sealed = people(
            "--profile", "app", "encrypt", patient, "-k", "t-opened", "-c", f"patient={patient}", "--out", f"s{patient}"
        )
        assert sealed.code == 0

    def decrypt(patient: str, context: str) -> tuple[int, str]:
        done = people("--profile", "app", "decrypt", f"s{patient}", "-c", f"patient={context}", "--out", "opened")
        return done.code, done.text + done.err

    assert decrypt("a", "a")[0] == 0
    code, said = decrypt("b", "b")
    assert code == 1 and "is not what sb/r.json.kc holds" in said
    code, said = decrypt("a", "wrong")
    assert code == 1 and "already done" not in said
    os.utime("sa/r.json.kc")  # newer than what was opened, as after `rewrap`
    code, said = decrypt("a", "a")
    assert code == 0 and "1 already done" in said
    assert Path("opened/r.json").read_bytes() == b"a" * 1000


def test_no_folders_are_left_where_nothing_was_put_into_them(people: Prompt, live: Live) -> None:
    _two_of_one_size(people, live, "t-empty")
    assert people("--profile", "app", "encrypt", "a", "-k", "t-empty", "-c", "patient=a", "--out", "sealed-a").code == 0
    Path("there").mkdir()
    for out in ("new/below", "there/below"):
        done = people("--profile", "app", "decrypt", "sealed-a", "-c", "patient=wrong", "--out", out)
        assert done.code == 1, done.text
    done = people("--profile", "app", "encrypt", "a", "-k", "t-nowhere", "-c", "patient=a", "--out", "new/sealed")
    assert done.code == 1, done.text
    assert not Path("new").exists()
    assert list(Path("there").iterdir()) == []


def test_who_may_not_open_is_told_so_and_not_that_it_is_done(people: Prompt, live: Live) -> None:
    _two_of_one_size(people, live, "t-blind")
    profiles.write_profile("blind", None, live.url, live.ca_file, live.token(["data-key"], ["t-blind"]), replace=True)
    asked = ("encrypt", "a", "-k", "t-blind", "-c", "patient=a", "--out", "sealed")
    assert people("--profile", "blind", *asked).code == 0
    again = people("--profile", "blind", *asked)
    assert again.code == 1
    assert "this credential may not open it" in again.err
    assert people("--profile", "blind", *asked, "--force").code == 0


def test_a_file_that_is_named_twice_is_worked_on_once(people: Prompt, live: Live) -> None:
    live.create_key("t-twice")
    _records(Path("records"), 2)
    named = ("records/0000.json", "records", "./records/0001.json")
    done = people("--profile", "app", "encrypt", *named, "-k", "t-twice", *CONTEXT, "--json")
    assert json.loads(done.text)["counts"] == {"done": 2}


def test_what_cannot_be_read_keeps_nothing_else_from_being_done(
    people: Prompt, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.create_key("t-unreadable")
    _records(Path("records"), 3)
    Path("records/closed").mkdir()
    real_list, real_look = os.scandir, finished.inspect_file

    def scandir(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return real_list(path)

    def look(path: str) -> object:
        if path.endswith("0001.json"):
            raise PermissionError(13, "Permission denied", path)
        return real_look(path)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(finished, "inspect_file", look)
    done = people("--profile", "app", "encrypt", "records", "-k", "t-unreadable", *CONTEXT)
    assert done.code == 1
    assert "encrypted 2 files" in done.text and "2 failed" in done.text
    assert "records/closed" in done.err and "records/0001.json" in done.err


def test_every_file_that_failed_is_named(people: Prompt, live: Live) -> None:
    live.create_key("t-named")
    _records(Path("records"), 30)
    people("--profile", "app", "encrypt", "records", "-k", "t-named", *CONTEXT, "--out", "sealed")
    for path in Path("sealed").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    done = people("--profile", "app", "decrypt", "sealed", *CONTEXT, "--out", "opened")
    assert done.code == 1
    assert sum(f"sealed/{number:04}.json.kc" in done.err for number in range(30)) == 21
    assert "and 9 more" in done.err


def test_a_source_stays_whose_result_does_not_open(people: Prompt, live: Live) -> None:
    source = _sealed(people, live, "t-stays-too")
    code, said = _remove(people, "t-stays-too", "-c", "purpose=other")
    assert code == 1
    assert "does not decrypt" in said
    assert source.exists()


def test_a_result_of_another_key_is_not_taken_for_done(people: Prompt, live: Live) -> None:
    _sealed(people, live, "t-one")
    live.create_key("t-two")
    done = people("--profile", "app", "encrypt", "records/0000.json", "-k", "t-two", *CONTEXT)
    assert done.code == 1
    assert "is there and is not" in done.err


def test_a_source_goes_when_all_is_well(people: Prompt, live: Live) -> None:
    source = _sealed(people, live, "t-goes")
    plain = source.read_bytes()
    assert _remove(people, "t-goes")[0] == 0
    assert not source.exists()
    assert people("--profile", "app", "decrypt", "records", *CONTEXT).code == 0
    assert source.read_bytes() == plain


def test_a_server_that_is_sealed_ends_the_run_with_3(own_live: Live, prompt: Prompt) -> None:
    introduce(own_live)
    own_live.create_key("t-sealed")
    _records(Path("records"), 20)
    assert prompt("--profile", "operator", "seal").code == 0
    done = prompt("--profile", "app", "encrypt", "records", "-k", "t-sealed", *CONTEXT, "--out", "sealed", "--json")
    assert done.code == 3
    counts = json.loads(done.text)["counts"]
    assert counts["failed"] <= 4
    assert counts["failed"] + counts["not_tried"] == 20
    assert [path for path in Path().rglob("*.kc")] == []
    own_live.unseal()
    assert prompt("--profile", "app", "encrypt", "records", "-k", "t-sealed", *CONTEXT, "--out", "sealed").code == 0
    assert len(list(Path("sealed").iterdir())) == 20


def test_a_large_file_streams_through_a_pipe(people: Prompt, live: Live) -> None:
    live.create_key("t-pipe")
    data = os.urandom(5_000_000)
    sealed = people("--profile", "app", "encrypt", "-", "-k", "t-pipe", *CONTEXT, given=data)
    assert sealed.code == 0
    assert data[:64] not in sealed.out
    assert people("--profile", "app", "decrypt", "-", "-k", "t-pipe", *CONTEXT, given=sealed.out).out == data


def test_a_reader_that_goes_away_is_no_error_message(people: Prompt, live: Live) -> None:
    command = f"{sys.executable} -m keyclave_cli --profile app openapi | head -c 1 >/dev/null; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], env={**os.environ, "PYTHONPATH": ENVIRONMENT["PYTHONPATH"]}, capture_output=True
    )
    assert done.returncode in (0, 141)
    assert done.stderr == b""


@pytest.mark.parametrize("arguments", [("--profile", "app", "openapi"), ("--profile", "app", "whoami"), ("--help",)])
def test_a_reader_that_is_gone_already_is_no_error_message(people: Prompt, live: Live, arguments: tuple[str, ...]) -> None:
    """Whether it shows while much is written, at the end, or before a command is known at all."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "keyclave_cli", *arguments], stdout=writing, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": ENVIRONMENT["PYTHONPATH"]},
        )  # fmt: skip
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")
