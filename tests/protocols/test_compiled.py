"""The server whose hot path is compiled ahead of time (setup.py), beside the one that runs its text: one product, two speeds.

The suites that `make test` runs again on it show that it does the same; this shows that it is there, and that nothing else is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest

from tests import live as servers
from tests.house.test_compiled import compiled
from tests.live import COMPILED, ROOT, Live, launch

PLAINTEXT = b64encode(b"a potassium of 5.9 mmol/l").decode()
CONTEXT = {"patient": "p-1", "purpose": "treatment"}


def machine_code(live: Live) -> set[str]:
    """Return the files of machine code that the server has of ours."""
    lines = Path(f"/proc/{live.process.pid}/maps").read_text().splitlines()
    return {line.split(maxsplit=5)[5] for line in lines if str(ROOT / "build") in line or str(ROOT / "src") in line}


def run_from(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    """Let servers that are started run what `source` holds."""
    monkeypatch.setitem(servers.ENVIRONMENT, "PYTHONPATH", str(source))


def test_every_listed_file_is_run_compiled() -> None:
    names = ["keyclave." + path.removesuffix(".py").replace("/", ".") for path in compiled()]
    program = f"import sys, keyclave.app.serve\nprint(*(sys.modules[name].__file__ for name in {names}))"
    environment = {"PYTHONPATH": str(COMPILED)}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    files = run.stdout.split()
    assert len(files) == len(names)
    assert [file for file in files if not (file.startswith(f"{COMPILED}/") and file.endswith(".so"))] == []


def test_the_servers_of_all_suites_run_what_was_asked_for(live: Live) -> None:
    assert bool(machine_code(live)) == bool(os.environ.get("KEYCLAVE_TEST_COMPILED"))


def test_a_server_of_the_text_has_no_machine_code_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_from(monkeypatch, COMPILED)
    live = launch(tmp_path)
    try:
        assert any("__mypyc." in path for path in machine_code(live))
        live.end()
        run_from(monkeypatch, ROOT / "src")
        live.restart()
        assert machine_code(live) == set()
    finally:
        live.stop()


@pytest.mark.requirement("R14")
@pytest.mark.parametrize("first, then", [(COMPILED, ROOT / "src"), (ROOT / "src", COMPILED)], ids=["compiled", "text"])
def test_what_one_has_made_the_other_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: Path, then: Path) -> None:
    run_from(monkeypatch, first)
    live = launch(tmp_path)
    try:
        live.create_key("ward")
        token = live.token(["encrypt", "decrypt", "data-key", "unwrap"], ["ward"])
        asked = {"plaintext": PLAINTEXT, "context": CONTEXT}
        sealed = [live.post("/v1/keys/ward/encrypt", token, asked).json()["ciphertext"] for _ in range(3)]
        many = live.post("/v1/keys/ward/encrypt/batch", token, {"items": [asked] * 100}).json()["results"]
        wrapped = live.post("/v1/keys/ward/data-key", token, {"context": CONTEXT}).json()
        live.end()
        run_from(monkeypatch, then)
        live.restart()
        opened = [live.post("/v1/keys/ward/decrypt", token, {"ciphertext": one, "context": CONTEXT}).json() for one in sealed]
        assert [one["plaintext"] for one in opened] == [PLAINTEXT] * 3
        items = [{"ciphertext": one["ciphertext"], "context": CONTEXT} for one in many]
        results = live.post("/v1/keys/ward/decrypt/batch", token, {"items": items}).json()["results"]
        assert [one["plaintext"] for one in results] == [PLAINTEXT] * 100
        unwrapped = live.post("/v1/keys/ward/unwrap", token, {"wrapped": wrapped["wrapped"], "context": CONTEXT}).json()
        assert unwrapped["material"] == wrapped["plaintext"]
    finally:
        live.stop()
