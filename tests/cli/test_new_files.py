"""What is seen once has somewhere to go before the server makes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keyclave_cli import profiles
from tests.cli.transcript import Prompt
from tests.live import Live

pytestmark = pytest.mark.requirement("R10")

ISSUE = "keyclave --profile operator credential issue lost --ttl 1h -o unwrap -k t-*"
SAVED = {
    ISSUE + " --save-token": "credentials",
    "keyclave --profile operator person invite lost --save-token": "invitations",
}


def _names(live: Live, what: str) -> set[str]:
    return {one["principal"] for one in live.get(f"/v1/{what}", "auditor").json()[what]}


@pytest.mark.parametrize("command", SAVED)
@pytest.mark.parametrize("place", ["nowhere/token", "taken", "/proc/token"])
def test_a_token_without_a_place_is_not_made(live: Live, people: Prompt, command: str, place: str) -> None:
    Path("taken").write_text("mine")
    done = people.line(f"{command} {place}")
    assert done.code == 2
    assert place in done.err and "name a new" in done.err and "Traceback" not in done.err
    assert "lost" not in _names(live, SAVED[command])
    assert Path("taken").read_text() == "mine"


def test_a_profile_that_is_there_is_no_place_for_a_token(live: Live, people: Prompt) -> None:
    profiles.write_profile("ward-3", None, live.url, live.ca_file, "token-of-ward-3", replace=False)
    done = people.line(f"{ISSUE} --save-profile ward-3")
    assert done.code == 2
    assert "keyclave profile list" in done.err and "--force" not in done.err
    assert "lost" not in _names(live, "credentials")
    assert profiles.find_profile("ward-3", None).token == "token-of-ward-3"


def test_a_tenant_whose_profiles_are_there_is_not_made(live: Live, people: Prompt) -> None:
    profiles.write_profile("ward-operator", None, live.url, live.ca_file, "token-of-ward", replace=False)
    done = people.line("keyclave --profile custodian tenant create ward --save-profiles")
    assert done.code == 2
    assert "ward-operator" in done.err
    assert [path.stem for path in profiles.list_profiles(None) if path.stem.startswith("ward-")] == ["ward-operator"]


def test_a_place_is_given_back_when_the_server_refuses(people: Prompt) -> None:
    done = people.line("keyclave --profile auditor credential issue x -o unwrap -k t-* --save-token t --save-profile p")
    assert done.code == 1
    assert not Path("t").exists()
    assert not [path for path in profiles.list_profiles(None) if path.stem == "p"]


def test_what_is_kept_is_private_and_whole(live: Live, people: Prompt) -> None:
    done = people.line(f"{ISSUE.replace('lost', 'kept')} --save-token t --save-profile p --json")
    assert done.code == 0, done.err
    assert "token" not in json.loads(done.text)
    token = Path("t").read_text()
    assert token == f"{profiles.find_profile('p', None).token}\n"
    assert live.get("/v1/whoami", token.strip()).json()["principal"] == "kept"
    assert Path("t").stat().st_mode & 0o777 == profiles.find_profile("p", None).path.stat().st_mode & 0o777 == 0o600
