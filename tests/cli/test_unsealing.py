"""Unsealing from files and pipes, with plain and with protected shares, and sealing again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.cli.conftest import introduce
from tests.cli.transcript import Prompt
from tests.live import ENVIRONMENT, Live, free_port, start, wait_until_up

pytestmark = pytest.mark.requirement("R3", "R4")


def test_shares_from_a_pipe_and_from_files(own_live: Live, prompt: Prompt) -> None:
    introduce(own_live)
    assert json.loads(prompt("--profile", "operator", "seal", "--json").text) == {"sealed": True}
    sealed = prompt("--profile", "app", "use", "random", "8")
    assert sealed.code == 3
    assert "keyclave unseal" in sealed.err
    one = prompt("--profile", "operator", "unseal", given=own_live.shares[1].encode())
    assert (one.code, one.text) == (3, "1 of 2: the server is still sealed\n")
    assert "1 share is missing" in one.err
    Path("share").write_text(own_live.shares[2] + "\n")
    two = prompt("--profile", "operator", "unseal", "--share-file", "share", "--json")
    assert (two.code, json.loads(two.text)) == (0, {"sealed": False})
    again = prompt("--profile", "operator", "unseal", given=b"anything")
    assert (again.code, again.text) == (0, "the server is open\n")


def test_no_share_opens_nothing_and_says_so(own_live: Live, prompt: Prompt) -> None:
    introduce(own_live)
    prompt("--profile", "operator", "seal")
    Path("empty").write_text("\n")
    for words, said in (((), "no share was given"), (("--share-file", "empty"), "empty: no share is in it")):
        done = prompt("--profile", "operator", "unseal", *words, given=b" \n")
        assert (done.code, done.text) == (2, "")
        assert said in done.err and "--share-file" in done.err


def test_a_share_that_is_none_is_refused_and_not_repeated(own_live: Live, prompt: Prompt) -> None:
    introduce(own_live)
    prompt("--profile", "operator", "seal")
    wrong = own_live.shares[0][:-1] + ("A" if own_live.shares[0][-1] != "A" else "B")
    done = prompt("--profile", "operator", "unseal", given=wrong.encode())
    assert done.code == 1
    assert wrong not in done.err + done.text


def test_shares_protected_to_custodians_keys(prompt: Prompt, tmp_path: Path) -> None:
    port, publics = free_port(), []
    for number in range(2):
        key = ec.generate_private_key(ec.SECP384R1())
        Path(f"{number}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        Path(f"{number}.pub").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        publics += ["--protect-to", f"{number}.pub"]
    command = [
        sys.executable,
        "-m",
        "keyclave_cli",
        "init",
        "--home",
        "home",
        "--port",
        str(port),
        "--threshold",
        "2",
        "--people",
        "tokens",
    ]
    subprocess.run([*command, "--custodians", "2", "--out-json", "made.json", *publics], check=True, env=ENVIRONMENT)
    assert prompt("profile", "add", "--from-init", "made.json").code == 0
    made = json.loads(Path("made.json").read_text())
    process = start(Path("home").resolve(), port)
    try:
        wait_until_up(made["url"], made["ca_file"], process)
        first, second = made["shares"]
        wrong = prompt("--profile", "operator", "unseal", "--share-file", first, "--open-with", "1.key")
        assert wrong.code == 1
        assert "does not open" in wrong.err
        assert prompt("--profile", "operator", "unseal", "--share-file", first, "--open-with", "0.key").text.startswith("1 of 2")
        assert (
            prompt("--profile", "operator", "unseal", "--share-file", second, "--open-with", "1.key").text
            == "the server is open\n"
        )
    finally:
        process.terminate()
        process.wait(20)
