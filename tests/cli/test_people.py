"""The command line on people: inviting by two, enrolling a key, seeing and ending sessions."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from keyclave_cli import profiles
from tests.cli.transcript import Prompt
from tests.live import Live
from tests.visitor import Visitor

pytestmark = pytest.mark.requirement("R10", "R15", "R30")


def visitor(live: Live, name: str) -> Visitor:
    """Return somebody with a passkey and a profile of a session under their name."""
    made = live.post("/v1/invitations", "operator", {"principal": name, "role": "person"}).json()
    live.post(f"/v1/invitations/{made['id']}/confirm", "custodian")
    begun = live.post("/v1/enrolment/begin", body={"invitation": made["token"]}).json()
    person = Visitor(live, name)
    assert person.enrol(begun["token"]).status_code == 201
    profiles.write_profile(name, None, live.url, live.ca_file, person.login(), replace=True)
    return person


def test_two_people_let_a_third_one_in(live: Live, people: Prompt, tmp_path: Path) -> None:
    token = tmp_path / "guest.token"
    made = people.line(f"keyclave --json --profile operator person invite cli-guest --ttl 2h --save-token {token}")
    assert made.code == 0, made.err
    said = json.loads(made.out.decode())
    assert "token" not in said
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    refused = people.line(f"keyclave --profile operator person confirm {said['id']}")
    assert refused.code != 0
    assert "second person" in refused.err
    assert "cli-guest can enrol" in people.line(f"keyclave --profile custodian person confirm {said['id']}").out.decode()
    begun = live.post("/v1/enrolment/begin", body={"invitation": token.read_text().strip()})
    assert begun.json()["principal"] == "cli-guest"
    listed = people.line("keyclave --json --profile auditor person invitations")
    assert token.read_text().strip() not in listed.out.decode()
    assert said["id"] in [one["id"] for one in json.loads(listed.out.decode())]


def test_whoami_says_how_sure_the_server_is(live: Live, people: Prompt) -> None:
    visitor(live, "cli-sure")
    shown = people.line("keyclave --profile cli-sure whoami").out.decode()
    assert "cli-sure" in shown
    assert "level 3, by passkey" in shown
    assert "level 1, by bearer credential" in people.line("keyclave --profile custodian whoami").out.decode()


@pytest.mark.parametrize("passphrase", [None, b"four quiet lanterns"])
def test_a_key_is_enrolled_from_its_file_and_stays_there(
    live: Live, people: Prompt, tmp_path: Path, passphrase: bytes | None
) -> None:
    name = f"cli-key-{'locked' if passphrase else 'open'}"
    visitor(live, name)
    key = ec.generate_private_key(ec.SECP384R1())
    encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    file, phrase = tmp_path / "me.pem", tmp_path / "phrase"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    phrase.write_bytes((passphrase or b"") + b"\n")
    more = f" --passphrase-file {phrase}" if passphrase else ""
    made = people.line(f"keyclave --json --profile {name} authenticator enrol-key {file} --label card{more}")
    assert made.code == 0, made.err
    assert (json.loads(made.out.decode())["kind"], json.loads(made.out.decode())["label"]) == ("key", "card")
    listed = json.loads(people.line(f"keyclave --json --profile {name} authenticator list").out.decode())["authenticators"]
    assert [one["kind"] for one in listed] == ["passkey", "key"]
    assert "is revoked" in people.line(f"keyclave --profile {name} authenticator revoke {listed[1]['id']}").out.decode()


def test_recovery_codes_are_seen_once(live: Live, people: Prompt, tmp_path: Path) -> None:
    visitor(live, "cli-forgetful")
    file = tmp_path / "codes"
    assert people.line(f"keyclave --profile cli-forgetful recovery codes --save {file}").code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(set(file.read_text().split())) == 10
    assert "10 recovery codes left" in people.line("keyclave --profile cli-forgetful recovery left").out.decode()


def test_sessions_are_seen_and_ended(live: Live, people: Prompt) -> None:
    person = visitor(live, "cli-sessions")
    other = person.login()
    listed = json.loads(people.line("keyclave --json --profile cli-sessions session list").out.decode())
    assert [one["current"] for one in listed].count(True) == 1
    strange = live.get("/v1/whoami", other).json()["credential"]
    assert "ended 1 session" in people.line(f"keyclave --profile cli-sessions session revoke {strange}").out.decode()
    assert live.get("/v1/whoami", other).status_code == 401
    assert "ended" in people.line("keyclave --profile operator session revoke --principal cli-sessions").out.decode()
    assert people.line("keyclave --profile cli-sessions whoami").code != 0


def test_a_person_is_disabled_and_enabled(live: Live, people: Prompt) -> None:
    visitor(live, "cli-left")
    assert "Disabled" in people.line("keyclave --profile operator person disable cli-left --reason left").out.decode()
    assert people.line("keyclave --profile cli-left whoami").code != 0
    alone = people.line("keyclave --profile custodian person enable cli-left")
    assert (alone.code, "waits for the approval of others" in alone.err) == (1, True)
    approval = live.approvers.request("person-enable", "cli-left", {"reason": ""}, live.tokens["custodian"])["id"]
    live.approvers.approve(approval, live.tokens["custodian"], [live.tokens["operator"]])
    assert people.line(f"keyclave --profile custodian --approval {approval} person enable cli-left").code == 0
    assert "1 passkey" in people.line("keyclave --profile auditor person show cli-left").out.decode()
    assert "cli-left" in people.line("keyclave --profile auditor person list").out.decode()


def test_holders_of_shares_are_named_and_listed(live: Live, people: Prompt) -> None:
    visitor(live, "cli-holder")
    body = {"share": 1, "principal": "cli-holder", "reason": "took it over"}
    line = "keyclave --profile custodian share name 1 cli-holder --reason 'took it over'"
    assert "waits for the approval of others" in people.line(line).err
    approval = live.approvers.request("share-holder-name", "", body, live.tokens["custodian"])["id"]
    live.approvers.approve(approval, live.tokens["custodian"], [live.tokens["operator"]])
    named = people.line(line.replace("keyclave", f"keyclave --approval {approval}", 1))
    assert (named.code, named.out.decode()) == (0, "share 1 is held by cli-holder\n")
    shown = people.line("keyclave --profile auditor share holders").out.decode()
    assert "cli-holder" in shown and "first-custodian" in shown and approval in shown
    found = json.loads(people.line("keyclave --json --profile auditor share holders --history").out.decode())
    assert (found["shares"], found["history"][-1]["principal"]) == (3, "cli-holder")
    assert people.line("keyclave --profile custodian share name 17 cli-holder").code == 2
