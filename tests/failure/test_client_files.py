"""Files: whole or not at all, whatever dies, is in the way, or changes; and larger than memory."""

from __future__ import annotations

import errno
import io
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from keyclave_client import Encryptor, inspect_file
from keyclave_client.errors import Malformed, Undecipherable
from keyclave_client.local import header as wire
from tests.unit.client.standin import LocalKeys

CONTEXT = {"patient": "p-17"}
PLAIN = bytes(range(256)) * 1000
ROOT = Path(__file__).parents[2]


@pytest.fixture
def source() -> LocalKeys:
    return LocalKeys()


@pytest.fixture
def encryptor(source: LocalKeys) -> Encryptor:
    return Encryptor(source)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "scan.dcm"
    path.write_bytes(PLAIN)
    return path


@pytest.fixture
def sealed(tmp_path: Path, plain: Path, encryptor: Encryptor) -> Path:
    path = tmp_path / "scan.dcm.kcl"
    encryptor.encrypt_file(plain, path, CONTEXT)
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(params=["nameless", "named"])
def temporary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of writing a file that is not there yet: unnamed, and under a random name where there are no unnamed files."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE")
    return str(request.param)


@pytest.mark.requirement("R1", "R11")
@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_round_trip_with_mode(tmp_path: Path, encryptor: Encryptor, size: int, temporary: str) -> None:
    path, there, back = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    path.write_bytes(os.urandom(size))
    path.chmod(0o640)

    assert encryptor.encrypt_file(path, there, CONTEXT) == size
    assert encryptor.decrypt_file(there, back, CONTEXT) == size
    assert back.read_bytes() == path.read_bytes()
    assert [stat.S_IMODE(p.stat().st_mode) for p in (there, back)] == [0o640, 0o640]
    said = inspect_file(there)
    assert (said.kind, said.plaintext_size, said.size, said.version) == ("stream", size, there.stat().st_size, 1)
    assert names(tmp_path) == {"a", "b", "c"}


def test_special_mode_bits_do_not_come_out_of_a_ciphertext(tmp_path: Path, sealed: Path, encryptor: Encryptor) -> None:
    sealed.chmod(0o6755)
    encryptor.decrypt_file(sealed, tmp_path / "out", CONTEXT)

    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755


def test_while_it_is_written_nobody_else_may_read_it(
    tmp_path: Path, plain: Path, encryptor: Encryptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.chmod(0o644)
    modes, change = [], os.fchmod

    def seen(descriptor: int, mode: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        change(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", seen)
    encryptor.encrypt_file(plain, tmp_path / "b")

    assert modes == [0o600]


@pytest.mark.parametrize("operation", ["encrypt_file", "decrypt_file"])
def test_what_is_there_is_not_overwritten_unless_asked(
    tmp_path: Path, plain: Path, sealed: Path, encryptor: Encryptor, operation: str, temporary: str
) -> None:
    src = plain if operation == "encrypt_file" else sealed
    there = tmp_path / "there"
    there.write_bytes(b"precious")
    act: Callable[..., int] = getattr(encryptor, operation)
    with pytest.raises(FileExistsError):
        act(src, there, CONTEXT)
    assert there.read_bytes() == b"precious"
    act(src, there, CONTEXT, overwrite=True)

    assert there.read_bytes() != b"precious"
    assert names(tmp_path) == {"scan.dcm", "scan.dcm.kcl", "there"}


def test_what_appears_meanwhile_is_not_overwritten(tmp_path: Path, plain: Path, encryptor: Encryptor, temporary: str) -> None:
    there = tmp_path / "there"

    def appears(done: int) -> None:
        there.write_bytes(b"precious")

    with pytest.raises(FileExistsError):
        encryptor.encrypt_file(plain, there, CONTEXT, progress=appears)

    assert there.read_bytes() == b"precious"
    assert names(tmp_path) == {"scan.dcm", "there"}


def test_without_hard_links_it_still_lands_and_does_not_overwrite(
    tmp_path: Path, plain: Path, encryptor: Encryptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.delattr(os, "O_TMPFILE")
    monkeypatch.setattr(os, "link", no_links)
    encryptor.encrypt_file(plain, tmp_path / "b", CONTEXT)
    assert encryptor.decrypt((tmp_path / "b").read_bytes(), CONTEXT) == PLAIN
    with pytest.raises(FileExistsError):
        encryptor.encrypt_file(plain, tmp_path / "c", CONTEXT, progress=lambda done: (tmp_path / "c").touch())

    assert names(tmp_path) == {"scan.dcm", "b", "c"}
    assert not (tmp_path / "c").read_bytes()


def test_links_are_not_followed(tmp_path: Path, plain: Path, sealed: Path, encryptor: Encryptor, temporary: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(plain)
    with pytest.raises(Malformed):
        encryptor.encrypt_file(link, tmp_path / "b", CONTEXT)
    with pytest.raises(Malformed):
        encryptor.decrypt_file(sealed, link, CONTEXT, overwrite=True)
    with pytest.raises(FileExistsError):
        encryptor.decrypt_file(sealed, link, CONTEXT)
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        encryptor.decrypt_file(sealed, dangling, CONTEXT)
    sealed_link = tmp_path / "sealed-link"
    sealed_link.symlink_to(sealed)
    with pytest.raises(Malformed):
        encryptor.rewrap_file(sealed_link, CONTEXT)
    with pytest.raises(Malformed):
        inspect_file(sealed_link)
    assert plain.read_bytes() == PLAIN
    encryptor.encrypt_file(link, tmp_path / "b", CONTEXT, follow_symlinks=True)

    assert encryptor.decrypt((tmp_path / "b").read_bytes(), CONTEXT) == PLAIN
    assert not (tmp_path / "elsewhere").exists()


def test_pipes_and_folders_are_not_files(tmp_path: Path, plain: Path, encryptor: Encryptor) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(Malformed):
            encryptor.encrypt_file(tmp_path / name, tmp_path / "out")
        with pytest.raises(Malformed):
            encryptor.encrypt_file(plain, tmp_path / name, overwrite=True)

    assert names(tmp_path) == {"scan.dcm", "pipe", "folder"}


def test_the_folder_exchanged_for_a_link_midway_changes_nothing(tmp_path: Path, plain: Path, encryptor: Encryptor) -> None:
    out, trap = tmp_path / "out", tmp_path / "trap"
    out.mkdir()
    trap.mkdir()

    def exchange(done: int) -> None:
        if not out.is_symlink():
            out.rename(tmp_path / "moved")
            out.symlink_to(trap)

    encryptor.encrypt_file(plain, out / "b", CONTEXT, progress=exchange)

    assert not names(trap)
    assert names(tmp_path / "moved") == {"b"}


@pytest.mark.requirement("R11")
@pytest.mark.parametrize("damage", ["truncated", "flipped", "context", "not ours", "empty"])
def test_a_decryption_that_fails_leaves_nothing(
    tmp_path: Path, sealed: Path, encryptor: Encryptor, damage: str, temporary: str
) -> None:
    raw = sealed.read_bytes()
    bad = {
        "truncated": raw[:-1],
        "flipped": raw[:-1] + bytes([raw[-1] ^ 1]),
        "context": raw,
        "not ours": PLAIN,
        "empty": b"",
    }[damage]
    sealed.write_bytes(bad)
    before = names(tmp_path)
    with pytest.raises(Undecipherable):
        encryptor.decrypt_file(sealed, tmp_path / "out", CONTEXT if damage != "context" else {"patient": "p-18"})

    assert names(tmp_path) == before


def test_in_place_failure_keeps_the_original(tmp_path: Path, sealed: Path, encryptor: Encryptor, temporary: str) -> None:
    raw = sealed.read_bytes()[:-1]
    sealed.write_bytes(raw)
    with pytest.raises(Undecipherable):
        encryptor.decrypt_file(sealed, sealed, CONTEXT, overwrite=True)

    assert sealed.read_bytes() == raw


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, encryptor: Encryptor) -> None:
    path = tmp_path / "log"
    path.write_bytes(bytes(3 << 20))

    def append(done: int) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    with pytest.raises(Malformed):
        encryptor.encrypt_file(path, path, CONTEXT, overwrite=True, progress=append)

    assert path.read_bytes().startswith(bytes(3 << 20))
    assert names(tmp_path) == {"log"}


def test_a_full_disk_leaves_the_original(tmp_path: Path, plain: Path, encryptor: Encryptor, temporary: str) -> None:
    """The limit on file size stands in for the disk's: the write fails in the middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError):
            encryptor.encrypt_file(plain, plain, CONTEXT, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)

    assert plain.read_bytes() == PLAIN
    assert names(tmp_path) == {"scan.dcm"}


KILLED = """
import os, signal, sys
sys.path[:0] = [{root!r}, {root!r} + "/src"]
from keyclave_client import Encryptor
from tests.unit.client.standin import LocalKeys

if {named}:
    del os.O_TMPFILE
real, calls = getattr(os, {point!r}), 0

def die(*args, **kwargs):
    global calls
    calls += 1
    if calls == {count}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)

setattr(os, {point!r}, die)
def progress(done):
    if {point!r} == "getpid":
        os.getpid()
Encryptor(LocalKeys()).encrypt_file({path!r}, {path!r}, {{"patient": "p-17"}}, overwrite=True, progress=progress)
"""


# at which call the process dies ("getpid" is called after each chunk), and whether the original must still be there
DEATHS = [
    ("getpid", 1, True),
    ("getpid", 3, True),
    ("fchmod", 1, True),
    ("fsync", 1, True),
    ("replace", 1, True),
    ("fsync", 2, False),
]


@pytest.mark.requirement("R11")
@pytest.mark.parametrize(
    ("named", "point", "count", "original"),
    [(named, *death) for named in (False, True) for death in DEATHS] + [(False, "link", 1, True)],
)
def test_killed_anywhere_the_file_is_the_original_or_the_whole_result(
    tmp_path: Path, named: bool, point: str, count: int, original: bool
) -> None:
    plain = bytes(3 << 20)
    path = tmp_path / "scan.dcm"
    path.write_bytes(plain)
    code = KILLED.format(root=str(ROOT), point=point, count=count, named=named, path=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)

    assert done.returncode == -signal.SIGKILL, done.stderr
    if original:
        assert path.read_bytes() == plain
    else:
        assert inspect_file(path).plaintext_size == len(plain)
    if not named and point != "replace":
        assert names(tmp_path) == {"scan.dcm"}


LIMITED = """
import hashlib, os, resource, sys
sys.path[:0] = [{root!r}, {root!r} + "/src"]
from keyclave_client import Encryptor
from tests.unit.client.standin import LocalKeys

encryptor = Encryptor(LocalKeys())
encryptor.decrypt(encryptor.encrypt(b"warm up"))
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
limit = used + 150 * (1 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    bytearray(300 * (1 << 20))
except MemoryError:
    print("limited")
encryptor.encrypt_file("plain", "sealed", {{"patient": "p-17"}})
encryptor.decrypt_file("sealed", "opened", {{"patient": "p-17"}})
print(os.stat("sealed").st_size)
"""


@pytest.mark.requirement("R11")
def test_a_file_larger_than_memory(tmp_path: Path) -> None:
    """300 MiB through 150 MiB; the source is sparse, with marks that would show chunks lost, doubled or exchanged."""
    size, marks = 300 << 20, range(0, 300 << 20, 7_000_003)
    with (tmp_path / "plain").open("wb") as file:
        file.truncate(size)
        for at in marks:
            file.seek(at)
            file.write(at.to_bytes(8, "big")[: size - at])
    done = subprocess.run([sys.executable, "-c", LIMITED.format(root=str(ROOT))], cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["limited", str(size + 300 * wire.TAG + 198)]
    with (tmp_path / "plain").open("rb") as one, (tmp_path / "opened").open("rb") as two:
        while piece := one.read(1 << 20):
            assert two.read(1 << 20) == piece
        assert not two.read(1)


@pytest.mark.requirement("R24", "P5")
def test_rewrapping_a_file_changes_its_head_in_place(sealed: Path, plain: Path, encryptor: Encryptor, source: LocalKeys) -> None:
    before, node = sealed.read_bytes(), sealed.stat().st_ino
    source.version = 2
    said = encryptor.rewrap_file(sealed, CONTEXT)
    after = sealed.read_bytes()

    assert said.version == 2 and sealed.stat().st_ino == node
    assert (before[:9], before[142:]) == (after[:9], after[142:]) and before != after
    assert encryptor.decrypt(after, CONTEXT) == PLAIN


def test_a_rewrapping_that_fails_writes_nothing(sealed: Path, encryptor: Encryptor, source: LocalKeys) -> None:
    before = sealed.read_bytes()
    with pytest.raises(Undecipherable):
        encryptor.rewrap_file(sealed, {"patient": "p-18"})
    rewrap = source.rewrap
    source.rewrap = lambda wrapped, context, to_key: rewrap(wrapped, context, to_key) + b"x"  # type: ignore[method-assign]
    with pytest.raises(Malformed):
        encryptor.rewrap_file(sealed, CONTEXT)

    assert sealed.read_bytes() == before


def test_a_file_exchanged_while_it_is_rewrapped_is_not_written(sealed: Path, encryptor: Encryptor, source: LocalKeys) -> None:
    other = b"KCL" + bytes(500)

    def somebody_writes() -> None:
        sealed.write_bytes(other)

    source.before = somebody_writes
    with pytest.raises(Malformed):
        encryptor.rewrap_file(sealed, CONTEXT)

    assert sealed.read_bytes() == other


def test_a_sink_that_fails_midway_ends_the_stream(encryptor: Encryptor) -> None:
    class Broken(io.RawIOBase):
        def __init__(self) -> None:
            self.got = 0

        def writable(self) -> bool:
            return True

        def write(self, data: memoryview) -> int:  # type: ignore[override]
            self.got += len(data)
            if self.got > 2 << 20:
                raise BrokenPipeError
            return len(data)

    with pytest.raises(BrokenPipeError):
        encryptor.encrypt_stream(io.BytesIO(bytes(8 << 20)), Broken(), CONTEXT)
