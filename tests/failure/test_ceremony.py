"""The ceremony hands over nothing that was not tried, and keeps nothing that opens by itself."""

from __future__ import annotations

import itertools
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from keyclave.app import wiring
from keyclave.app.alone import FILE, alone
from keyclave.app.ceremony import Wishes, conclude, hold
from keyclave.app.config import StoreSection
from keyclave.app.hand_over import init
from keyclave.core.errors import KeyclaveError, Malformed, Unavailable, Undecipherable
from keyclave.crypto.shares import Share, combine
from keyclave.roots.software import SoftwareRoot
from keyclave.store import meta_rows
from keyclave.store.sqlite import SqliteStore
from tests.live import ENVIRONMENT

WISHES = Wishes(2, 3, False, "127.0.0.1", 8443, "keyclave.localhost/log", ())


@pytest.mark.parametrize("existing", [False, True])
def test_a_ceremony_that_is_refused_leaves_nothing_in_the_way_of_the_next(tmp_path: Path, existing: bool) -> None:
    home, out = tmp_path / "home", tmp_path / "made.json"
    if existing:
        home.mkdir()
    for wrong in (replace(WISHES, store=StoreSection(url="postgresql://u@/d?host=/nowhere")), replace(WISHES, threshold=9)):
        with pytest.raises(KeyclaveError):
            init(home, wrong, [], out, passphrases=False)
        assert list(tmp_path.iterdir()) == ([home] if existing else [])
        assert not existing or not list(home.iterdir())
    assert init(home, WISHES, [], out, passphrases=False) == 0
    assert out.stat().st_mode & 0o777 == 0o600
    before = sorted(home.rglob("*"))
    with pytest.raises(Malformed, match="not empty"):  # and never touches what is there already
        init(home, WISHES, [], tmp_path / "again.json", passphrases=False)
    assert sorted(home.rglob("*")) == before
    assert not (tmp_path / "again.json").exists()


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/home"])
@pytest.mark.parametrize("program", ["init", "serve"])
def test_a_place_that_cannot_be_a_home_is_named(tmp_path: Path, program: str, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.iterdir())
    options = ["--threshold", "2", "--out-json", "made.json"] if program == "init" else []
    command = [sys.executable, "-m", "keyclave.app", program, "--home", place, *options]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert place in done.stderr and "→ " in done.stderr and "Traceback" not in done.stderr
    assert (sorted(tmp_path.iterdir()), (tmp_path / "file").read_text()) == (before, "mine")


def test_a_home_that_is_not_ones_own_is_not_served(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(Unavailable, match=FILE):
        alone(tmp_path)


@pytest.mark.requirement("R6", "R16")
def test_every_quorum_of_the_shares_opens_the_root_and_no_fewer_do(tmp_path: Path) -> None:
    made, shares = hold(tmp_path / "home", WISHES)
    module = wiring.new_module()
    store = SqliteStore(tmp_path / "home" / "keyclave.db")
    sealed = store.read(lambda conn: meta_rows.read_meta(conn, wiring.ROOT_SEALED))
    assert sealed is not None
    for texts in itertools.combinations(made.shares, 2):
        root = SoftwareRoot(module, development=False)
        with combine([Share.from_text(t) for t in texts], shares.check, module) as recovery:
            root.open(recovery, sealed)
        root.health()
    for text in made.shares:
        with pytest.raises(Malformed):
            combine([Share.from_text(text)], shares.check, module)
    root = SoftwareRoot(module, development=False)
    with module.random_slot(32) as other, pytest.raises(Undecipherable):
        root.open(other, sealed)
    store.close()


@pytest.mark.requirement("R4", "R16")
def test_a_home_is_its_owners_alone_and_holds_neither_shares_nor_tokens(tmp_path: Path) -> None:
    home = tmp_path / "home"
    made, _ = hold(home, WISHES)
    conclude(home, WISHES, made)
    for path in [home, *home.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, path
        if path.is_file():
            content = path.read_bytes()
            for secret in [*made.shares, *made.credentials.values()]:
                assert secret.encode() not in content, path


@pytest.mark.requirement("R16")
def test_a_home_is_never_overwritten(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "something").write_text("mine")
    with pytest.raises(Malformed, match="not empty"):
        hold(home, WISHES)
    assert [p.name for p in home.iterdir()] == ["something"]


@pytest.mark.requirement("R16")
@pytest.mark.parametrize("quorum", [(1, 3), (4, 3), (2, 17), (0, 0), (1, 1)])
def test_a_quorum_that_is_none_is_refused(tmp_path: Path, quorum: tuple[int, int]) -> None:
    with pytest.raises(Malformed):
        hold(tmp_path / "home", Wishes(*quorum, False, "127.0.0.1", 8443, "keyclave.localhost/log", ()))


def test_results_without_a_place_are_refused_before_the_ceremony(tmp_path: Path) -> None:
    taken = tmp_path / "made.json"
    taken.write_text("precious")
    command = [sys.executable, "-m", "keyclave.app", "init", "--home", str(tmp_path / "home"), "--out-json", str(taken)]
    run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (run.returncode, taken.read_text(), (tmp_path / "home").exists()) == (1, "precious", False)
    assert "name a new file" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.requirement("R6", "R16")
def test_shares_sealed_to_custodians_open_only_for_them(tmp_path: Path) -> None:
    keys = []
    for name in ("ann", "bob"):
        private, public = tmp_path / f"{name}.key", tmp_path / f"{name}.pub"
        subprocess.run(["openssl", "ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", private], check=True)
        pkcs8 = subprocess.run(["openssl", "pkcs8", "-topk8", "-nocrypt", "-in", private], check=True, capture_output=True)
        private.write_bytes(pkcs8.stdout)
        subprocess.run(["openssl", "ec", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
        keys.append((private, public))
    home, made = tmp_path / "home", tmp_path / "made.json"
    arguments = ["--threshold", "2", "--custodians", "2", "--out-json", str(made)]
    for _, public in keys:
        arguments += ["--protect-to", str(public)]
    program = [sys.executable, "-m", "keyclave.app"]
    subprocess.run([*program, "init", "--home", str(home), *arguments], env=ENVIRONMENT, check=True)
    assert "kcs1-" not in made.read_text()
    opened = [
        subprocess.run(
            [*program, "open-share", str(home / "shares" / f"share-{number}.txt"), "--key", str(private)],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        for number, private in [(1, keys[0][0]), (2, keys[1][0]), (1, keys[1][0])]
    ]
    assert [run.returncode for run in opened] == [0, 0, 1]
    assert all(run.stdout.startswith("kcs1-") for run in opened[:2])
    assert opened[2].stdout == ""
    assert os.path.exists(home / "keyclave.toml")
