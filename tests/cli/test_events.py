"""`audit events`: what is looked for is found, and where nothing can be found that is said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.transcript import Done, Prompt
from tests.live import ENVIRONMENT, Live

pytestmark = pytest.mark.requirement("R5")


def _events(people: Prompt, options: str) -> tuple[list[dict[str, Any]], Done]:
    done = people.line(f"keyclave --json --profile auditor audit events {options}")
    return (json.loads(done.text) if done.code == 0 else []), done


def test_a_key_is_found_by_its_name_and_by_its_id(live: Live, people: Prompt) -> None:
    key = live.create_key("t-events-by-name")["id"]
    for named in ("t-events-by-name", key):
        found, done = _events(people, f"-k {named} -o key-create")
        assert [event["leaf"]["key"] for event in found] == [key], done.err


def test_a_key_that_there_is_not_is_said(people: Prompt) -> None:
    _, done = _events(people, "-k t-events-never")
    assert done.code == 1
    assert "there is no key t-events-never" in done.err


def test_an_operation_that_there_is_not_is_refused_with_those_near_it(people: Prompt) -> None:
    _, done = _events(people, "-o key-creat")
    assert done.code == 2
    assert "there is no operation key-creat" in done.err and "key-create" in done.err
    assert _events(people, "-o nonsense")[1].code == 2
    for real in ("review-overdue", "spool-place", "alarm-acknowledge"):
        assert _events(people, f"-o {real}")[1].code == 0


def test_more_than_are_shown_is_said_and_how_to_go_on(live: Live, people: Prompt) -> None:
    for number in range(3):
        live.create_key(f"t-events-more-{number}")
    live.until_placed()
    first, done = _events(people, "-o key-create --limit 2")
    assert len(first) == 2
    assert "up to " in done.err and "--from " in done.err
    start = done.err.partition("--from ")[2].partition(",")[0]
    rest, _ = _events(people, f"-o key-create --from {start} --limit 100000")
    every, done = _events(people, "-o key-create --limit 100000")
    assert first + rest == every
    assert done.err == ""


def test_what_the_help_shows_verifies_as_it_is_typed(live: Live, people: Prompt) -> None:
    Path("KEYS").write_text("\n".join(live.get("/v1/log/keys").json()["vkeys"]) + "\n")
    key = live.create_key("t-events-receipt")["event"]
    for line in ("audit checkpoint --out kept", "audit export DIR", f"audit receipt {key} --out FILE"):
        assert people.line(f"keyclave {line} --profile auditor").code == 0
    for command, words in (("checkpoint", "--checkpoint kept"), ("export", "KEYS"), ("receipt", "KEYS")):
        shown = people("audit", command, "--help").text
        (line,) = [one.strip() for one in shown.splitlines() if one.strip().startswith("keyclave-verify")]
        assert line.endswith(words)
        verify = [sys.executable, "-m", "keyclave_verify", *line.split()[1:]]
        assert subprocess.run(verify, env=ENVIRONMENT, capture_output=True, check=False).returncode == 0
    assert people.line("keyclave audit verify DIR --keys KEYS").code == 0
