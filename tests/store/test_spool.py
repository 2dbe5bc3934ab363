"""The spool: what is answered is on the disk, what a crash leaves behind is told apart, and nobody else comes near it."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyclave.core.errors import Broken, KeyclaveError, Malformed, Unavailable
from keyclave.store.entries import pack
from keyclave.store.spool import file as code
from keyclave.store.spool import writer as writing
from keyclave.store.spool.file import RECORD_HEAD, Reading, Record, Spool
from keyclave.store.spool.folder import Folder
from keyclave.store.spool.writer import Writer

pytestmark = pytest.mark.requirement("P1", "R32")

JOURNAL = "00112233445566aa"
EVENTS = [[b"one", b"two"], [b"three"], [b"four", b"5", b"six"]]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(tmp_path / "spool")
    yield made
    made.close()


def write(folder: Folder, *groups: list[bytes]) -> Path:
    """Write a spool as a process does that is killed afterwards."""
    spool = Spool(folder, JOURNAL, "clinic", 1 << 20)
    for group in groups:
        spool.append(group)
    os.close(spool._file)
    return folder.path / spool.name


def read(folder: Folder, name: str = f"{JOURNAL}.spool") -> tuple[Reading, list[Record]]:
    file = folder.lock(name)
    assert file is not None
    try:
        found = Reading(file, name)
        return found, list(found.records())
    finally:
        os.close(file)


def records(*groups: list[bytes]) -> list[Record]:
    made, first = [], 0
    for group in groups:
        made.append(Record(first, len(group), pack(group)))
        first += len(group)
    return made


def test_what_is_appended_is_read_again_in_order(folder: Folder) -> None:
    path = write(folder, *EVENTS)
    found, kept = read(folder)
    assert (found.journal, found.cluster, found.ending, found.events) == (JOURNAL, "clinic", "whole", 6)
    assert kept == records(*EVENTS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_the_bytes_are_those_of_the_specification(folder: Folder) -> None:
    import hashlib

    data = write(folder, [b"one", b"two"], [b"three"]).read_bytes()
    head = b"keyclave-spool/1" + JOURNAL.encode() + b"\x06clinic"
    chain = hashlib.sha256(head).digest()
    said = head + chain
    for first, count, packed in ((0, 2, b"\x00\x03one\x00\x03two"), (2, 1, b"\x00\x05three")):
        fields = len(packed).to_bytes(4, "big") + count.to_bytes(4, "big") + first.to_bytes(8, "big")
        chain = hashlib.sha256(chain + fields + packed).digest()
        said += fields + chain + packed
    assert data == said


def test_wherever_a_crash_cuts_it_off_the_whole_records_before_are_read_and_nothing_else(folder: Folder) -> None:
    path = write(folder, *EVENTS)
    data, kept = path.read_bytes(), records(*EVENTS)
    head = len(data) - sum(RECORD_HEAD + len(one.packed) for one in kept)
    ends = [head]
    for one in kept:
        ends.append(ends[-1] + RECORD_HEAD + len(one.packed))
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        found, left = read(folder)
        if cut < head:
            assert (found.journal, left) == ("", [])
            continue
        whole = sum(end <= cut for end in ends[1:])
        assert left == kept[:whole]
        assert found.ending == ("whole" if cut in ends else "torn")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_no_byte_changes_unnoticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = Folder(tmp_path_factory.mktemp("spool") / "spool")
    path = write(folder, *EVENTS)
    good = path.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    path.write_bytes(good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :])
    try:
        found, left = read(folder)
    except Broken:
        left = []
    else:
        assert found.ending != "whole"
    assert left == records(*EVENTS)[: len(left)]
    assert len(left) < len(EVENTS)
    folder.close()


@pytest.mark.parametrize("longer", [1, 40, 200])
def test_a_head_that_says_another_length_is_not_taken_for_one_that_was_never_written(folder: Folder, longer: int) -> None:
    path = write(folder, EVENTS[0])
    good = path.read_bytes()
    at = good.index(b"clinic") - 1
    assert good[at] == len(b"clinic")
    path.write_bytes(good[:at] + bytes((len(b"clinic") + longer,)) + good[at + 1 :])
    with pytest.raises(Broken):
        read(folder)


def test_a_record_that_the_disk_lost_in_the_middle_is_no_torn_end(folder: Folder) -> None:
    path = write(folder, *EVENTS)
    good = path.read_bytes()
    at = good.index(b"two")
    path.write_bytes(good.replace(b"two", b"tow"))
    found, left = read(folder)
    assert (found.ending, left) == ("damaged", [])
    path.write_bytes(good[: at - 5 - RECORD_HEAD - 2] + bytes(4096))  # it had grown, and what was to stand there did not arrive
    assert [read(folder)[0].ending, read(folder)[1]] == ["torn", []]
    path.write_bytes(good + bytes(4096))
    found, left = read(folder)
    assert (found.ending, left) == ("torn", records(*EVENTS))


def test_records_of_another_spool_or_in_another_order_are_not_taken(folder: Folder) -> None:
    path = write(folder, *EVENTS)
    one = path.read_bytes()
    path.unlink()
    path = write(folder, EVENTS[0], [b"other"])
    other = path.read_bytes()
    at = one.index(b"three") - 2 - RECORD_HEAD
    path.write_bytes(other + one[at:])  # goes on with what stands at the right number in the other one
    assert read(folder)[1] == records(EVENTS[0], [b"other"])
    head = at - RECORD_HEAD - len(pack(EVENTS[0]))
    path.write_bytes(one[:head] + one[at:])
    assert read(folder)[1] == []


def test_a_file_of_another_name_or_without_a_head_is_not_placed(folder: Folder) -> None:
    path = write(folder, *EVENTS)
    path.rename(folder.path / "ffffffffffffffff.spool")
    with pytest.raises(Broken, match="is called"):
        read(folder, "ffffffffffffffff.spool")
    (folder.path / "eeeeeeeeeeeeeeee.spool").write_bytes(b"x" * 4096)
    with pytest.raises(Broken, match="no head"):
        read(folder, "eeeeeeeeeeeeeeee.spool")


# ---- full and failing disks ------------------------------------------------------------------------------------------------
def test_a_full_spool_takes_no_more_and_stays_whole(folder: Folder) -> None:
    spool = Spool(folder, JOURNAL, "clinic", 400)
    with pytest.raises(Unavailable, match="full"):
        for _ in range(100):
            spool.append([b"x" * 50])
    kept = spool.next
    spool.close()
    assert read(folder)[0].ending == "whole"
    assert len(read(folder)[1]) == kept > 0
    assert (folder.path / spool.name).stat().st_size <= 400


def test_a_full_disk_leaves_no_half_record(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(folder, JOURNAL, "clinic", 1 << 20)
    spool.append([b"before"])
    room, real = [30], os.pwrite

    def full(file: int, data: bytes, at: int) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        took = real(file, data[: room[0]], at)
        room[0] -= took
        return took

    monkeypatch.setattr(code.os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        spool.append([b"refused" * 20])
    monkeypatch.setattr(code.os, "pwrite", real)
    spool.append([b"after"])
    spool.close()
    assert read(folder)[1] == records([b"before"], [b"after"])
    assert read(folder)[0].ending == "whole"


def test_after_a_failed_sync_a_spool_is_written_to_no_more(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(folder, JOURNAL, "clinic", 1 << 20)
    spool.append([b"before"])
    failing = [True]
    real = os.fdatasync

    def fail_once(file: int) -> None:
        if failing.pop():
            raise OSError(errno.EIO, "Input/output error")
        real(file)

    monkeypatch.setattr(code.os, "fdatasync", fail_once)
    with pytest.raises(OSError, match="Input/output"):
        spool.append([b"unknown"])
    with pytest.raises(Unavailable, match="cannot be written"):
        spool.append([b"after"])
    monkeypatch.undo()
    spool.close()
    assert read(folder)[1][0] == records([b"before"])[0]


# ---- the folder ------------------------------------------------------------------------------------------------------------
@pytest.mark.requirement("R40")
def test_a_folder_that_others_may_use_is_refused(tmp_path: Path) -> None:
    for mode in (0o755, 0o770, 0o701, 0o720):
        shared = tmp_path / f"{mode:o}"
        shared.mkdir()
        shared.chmod(mode)
        with pytest.raises(Malformed, match="others than the serving user"):
            Folder(shared)
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(Malformed, match="link"):
        Folder(tmp_path / "link")
    (tmp_path / "file").write_text("")
    with pytest.raises(Malformed, match="no folder"):
        Folder(tmp_path / "file")
    with pytest.raises(Malformed, match="cannot be used"):
        Folder(tmp_path / "absent" / "spool")
    Folder(tmp_path / "mine").close()


@pytest.mark.requirement("R40")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o700)
    os.chown(tmp_path / "theirs", 65534, 65534)
    with pytest.raises(Malformed, match="others than the serving user"):
        Folder(tmp_path / "theirs")


@pytest.mark.requirement("R40")
def test_links_pipes_and_doubles_in_the_folder_are_not_followed(folder: Folder, tmp_path: Path) -> None:
    path = write(folder, *EVENTS)
    outside = tmp_path / "outside"
    outside.write_bytes(path.read_bytes())
    (folder.path / "aaaaaaaaaaaaaaaa.spool").symlink_to(outside)
    with pytest.raises(OSError, match="symbolic"):
        folder.lock("aaaaaaaaaaaaaaaa.spool")
    os.mkfifo(folder.path / "bbbbbbbbbbbbbbbb.spool")
    with pytest.raises(OSError, match="not a file"):
        folder.lock("bbbbbbbbbbbbbbbb.spool")
    os.link(path, folder.path / "cccccccccccccccc.spool")
    assert folder.lock("cccccccccccccccc.spool") is None
    with pytest.raises(FileExistsError):
        Spool(folder, "aaaaaaaaaaaaaaaa", "clinic", 1 << 20)
    assert "notes.txt" not in folder.spools()


def test_a_spool_that_a_live_process_writes_is_left_alone_and_a_dead_ones_is_not(folder: Folder) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom keyclave.store.spool.file import Spool\n"
        "from keyclave.store.spool.folder import Folder\n"
        f"s = Spool(Folder(Path(sys.argv[1])), '{JOURNAL}', 'clinic', 1 << 20)\ns.append([b'theirs'])\n"
        "print('ready', flush=True)\nsys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "src"},
    )  # fmt: skip
    assert other.stdout is not None
    assert other.stdout.readline() == b"ready\n"
    assert folder.spools() == [f"{JOURNAL}.spool"]
    assert folder.lock(f"{JOURNAL}.spool") is None
    other.kill()
    other.wait()
    assert read(folder)[1] == records([b"theirs"])
    first = folder.lock(f"{JOURNAL}.spool")
    assert first is not None
    assert folder.lock(f"{JOURNAL}.spool") is None  # two who would place it: one does
    folder.remove(f"{JOURNAL}.spool")
    os.close(first)
    assert folder.lock(f"{JOURNAL}.spool") is None


# ---- group commit ----------------------------------------------------------------------------------------------------------
class Use:
    """A decryption that waits to be recorded."""

    def __init__(self, told: list[Any], events: list[bytes]) -> None:
        self.told, self.events, self.id = told, events, ("", -1)

    def spooled(self, journal: str, first: int) -> list[bytes]:
        self.id = (journal, first)
        return self.events

    def done(self, failure: KeyclaveError | None) -> None:
        self.told.append((self, failure))


class Loop:
    """Calls at once, and says when so many were called."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.changed = threading.Condition()

    def call(self, fn: Callable[..., object], *given: Any) -> None:
        with self.changed:
            fn(*given)
            self.changed.notify_all()

    def wait(self, number: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.told) >= number, 20)


def new_writer(folder: Folder, loop: Loop, limit: int = 1 << 20) -> Writer:
    names = iter(f"{i:016x}" for i in range(1, 99))
    return Writer(folder, "clinic", limit, lambda: next(names), loop.call)


def test_a_crowd_shares_a_sync_and_all_are_numbered_in_order(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, syncs, real, gate = Loop(), [0], os.fdatasync, threading.Event()
    writer = new_writer(folder, loop)

    def counted(file: int) -> None:
        gate.wait(20)
        syncs[0] += 1
        real(file)

    monkeypatch.setattr(code.os, "fdatasync", counted)
    uses = [Use(loop.told, [b"%d" % i]) for i in range(200)]
    for use in uses:
        writer.enqueue(use)
    assert loop.told == []  # nothing is told before it is synced
    gate.set()
    loop.wait(200)
    assert syncs[0] <= 2
    assert [use for use, failure in loop.told if failure is None] == uses
    assert [use.id[1] for use in uses] == list(range(200))
    writer.close()
    (name,) = folder.spools()
    assert [entry for one in read(folder, name)[1] for entry in code.unpack_row(one.packed, one.events)] == [
        b"%d" % i for i in range(200)
    ]


def test_a_record_has_a_bound_and_a_closed_spool_is_followed_by_another(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "GROUP_BYTES", 100)
    loop = Loop()
    writer = new_writer(folder, loop)
    assert not writer.holding
    uses = [Use(loop.told, [b"x" * 40] * (1 + i % 4)) for i in range(12)]
    for use in uses:
        writer.enqueue(use)
    loop.wait(12)
    assert writer.holding
    writer.hand_over()
    assert not writer.holding
    closed, _ = folder.spools()
    assert all(len(one.packed) <= 200 for one in read(folder, closed)[1])
    assert read(folder, closed)[0].ending == "whole"
    late = Use(loop.told, [b"late"])
    writer.enqueue(late)
    loop.wait(13)
    assert late.id == ("0000000000000002", 0)
    writer.close()
    assert len(folder.spools()) == 2


def test_an_unused_spool_leaves_nothing_behind(folder: Folder) -> None:
    writer = new_writer(folder, Loop())
    assert len(folder.spools()) == 1
    writer.hand_over()
    writer.close()
    assert folder.spools() == []


def test_who_finds_no_room_is_refused_and_so_is_everybody_on_a_disk_that_fails(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Loop()
    writer = new_writer(folder, loop, limit=500)
    for i in range(30):
        writer.enqueue(Use(loop.told, [b"y" * 60]))
        loop.wait(i + 1)
    kept = [failure for _, failure in loop.told if failure is None]
    refused = [failure for _, failure in loop.told if failure is not None]
    assert kept
    assert all("full" in failure.detail for failure in refused)
    assert len(kept) + len(refused) == 30

    def fails(file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(code.os, "fdatasync", fails)
    writer.hand_over()
    writer.enqueue(Use(loop.told, [b"z"]))
    loop.wait(31)
    assert isinstance(loop.told[-1][1], Unavailable)
    monkeypatch.undo()
    writer.enqueue(Use(loop.told, [b"again"]))  # another spool: the disk is well again
    loop.wait(32)
    assert loop.told[-1][1] is None
    writer.close()
