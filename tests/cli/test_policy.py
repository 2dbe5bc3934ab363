"""The command line on policies: files out, judged, asked for, put in force; and who can."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.cli.transcript import Prompt
from tests.live import Live
from tests.policies import Signer

pytestmark = [pytest.mark.requirement("R31"), pytest.mark.requirement("R10")]

FORBID = '@id("quiet-hours")\nforbid (principal, action == Action::"seal", resource) when { context.purpose == "research" };\n'


@pytest.fixture
def bundle(live: Live, people: Prompt, tmp_path: Path) -> Path:
    """The policy in force, as a directory."""
    folder = tmp_path / "bundle"
    done = people.line(f"keyclave --profile auditor policy export {folder}")
    assert done.code == 0, done.err
    return folder


def test_a_policy_is_exported_and_validated(people: Prompt, bundle: Path) -> None:
    assert (bundle / "rules.toml").is_file() and (bundle / "duties.cedar").is_file()
    again = people.line(f"keyclave --profile auditor policy export {bundle}")
    assert again.code == 1 and "--force" in again.err
    assert people.line(f"keyclave --profile auditor policy export --force {bundle}").code == 0
    assert people.line(f"keyclave --profile operator policy validate {bundle}").code == 0
    (bundle / "wrong.cedar").write_text('@id("wrong")\npermit (principal, action, resource) when { context.approvals > 1 };\n')
    found = people.line(f"keyclave --profile operator policy validate {bundle}")
    assert found.code == 1 and "wrong" in found.out.decode() and "approvals" in found.out.decode()
    (bundle / "notes.txt").write_text("x")
    assert "belongs to no bundle" in people.line(f"keyclave --profile operator policy validate {bundle}").err


def test_what_would_change_is_said_in_words(people: Prompt, bundle: Path) -> None:
    assert "nothing would change" in people.line(f"keyclave --profile operator policy plan {bundle}").out.decode()
    assert people.line(f"keyclave --profile operator policy drift {bundle}").code == 0
    (bundle / "quiet.cedar").write_text(FORBID)
    plan = people.line(f"keyclave --profile operator policy plan {bundle}")
    assert "add policy quiet-hours" in plan.out.decode()
    assert "lose" in plan.out.decode() and "when purpose research" in plan.out.decode()
    refused = json.loads(people.line(f"keyclave --json --profile operator policy plan {bundle}").out.decode())["refused"]
    assert ("it would be refused" if refused else "policy apply") in plan.err  # who has enrolled is other tests' doing
    assert f"+{FORBID.splitlines()[0]}" in people.line(f"keyclave --profile operator policy diff {bundle}").out.decode()
    drift = people.line(f"keyclave --profile operator policy drift {bundle}")
    assert drift.code == 1 and "quiet-hours" in drift.out.decode()
    simulated = people.line(f"keyclave --profile auditor policy simulate {bundle} --days 1")
    assert simulated.code == 0 and len(simulated.out.decode().splitlines()) == 1  # the columns' names


def test_why_and_who(live: Live, people: Prompt, tmp_path: Path) -> None:
    live.create_key("cli-policy-1")
    why = people.line("keyclave --profile auditor policy explain first-operator rotate cli-policy-1").out.decode()
    assert why.startswith("allowed") and "operator-duties" in why
    destroy = people.line("keyclave --profile auditor policy explain first-custodian destroy cli-policy-1").out.decode()
    assert "2 of custodian, operator" in destroy
    who = people.line("keyclave --profile auditor who-can cli-policy-1 rotate").out.decode()
    assert "first-operator" in who and "first-auditor" not in who
    assert "waits for 2 approvers" in people.line("keyclave --profile auditor who-can cli-policy-1 destroy").err
    alone = json.loads(people.line("keyclave --json --profile auditor who-can policy-apply").out.decode())
    assert {one["duty"] for one in alone["can"]} == {"custodian", "operator"}
    cases = tmp_path / "cases.toml"
    case = '[[case]]\nname = "rotate"\nprincipal = "x"\nduty = "operator"\noperation = "rotate"\nnew_key = {}\nallow = %s\n'
    cases.write_text(case % "true")
    assert people.line(f"keyclave --profile operator policy test {cases}").code == 0
    cases.write_text(case % "false")
    failed = people.line(f"keyclave --profile operator policy test {cases}")
    assert failed.code == 1 and "FAILED" in failed.out.decode()
    cases.write_text("nothing = 1\n")
    assert people.line(f"keyclave --profile operator policy test {cases}").code == 2


def test_a_signed_policy_is_put_in_force(own_live: Live, own_people: Prompt, tmp_path: Path) -> None:
    for role in ("operator", "auditor"):
        Signer(own_live, own_live.tokens[role])
    folder, pem = tmp_path / "bundle", tmp_path / "me.pem"
    key = ec.generate_private_key(ec.SECP384R1())
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    enrolled = json.loads(own_people.line(f"keyclave --json --profile custodian authenticator enrol-key {pem}").out.decode())
    own_people.line(f"keyclave --profile custodian policy export {folder}")
    (folder / "quiet.cedar").write_text(FORBID)
    apply = f"keyclave --profile custodian policy apply {folder} --key {pem} --authenticator {enrolled['id']}"
    assert "go together" in own_people.line(f"keyclave --profile custodian policy apply {folder} --key {pem}").err
    alone = own_people.line(f"{apply} --reason quiet")
    assert alone.code == 1 and "nobody acts alone" in alone.err
    assert own_people.line(f"{apply} --request").code == 2  # approvers are told why
    asked = own_people.line(f"{apply} --request --reason {shlex.quote('quiet hours')}")
    assert asked.code == 0, asked.err
    approval = asked.out.decode().split()[-1]
    others = [own_live.tokens["operator"], own_live.tokens["auditor"]]
    assert own_live.approvers.approve(approval, own_live.tokens["custodian"], others) == "approved"
    executed = own_live.post(f"/v1/approvals/{approval}/execute", "custodian")
    assert executed.json()["results"][0]["answer"]["revision"] == 2, executed.text
    (folder / "quiet.cedar").write_text(FORBID.replace("research", "payment"))
    plain = f"keyclave --profile custodian policy apply {folder} --reason later"
    second = own_people.line(f"{plain} --request").out.decode().split()[-1]
    own_live.approvers.approve(second, own_live.tokens["custodian"], others)
    other = own_people.line(plain.replace("later", "sooner").replace("keyclave", f"keyclave --approval {second}"))
    assert other.code == 1 and "to the letter" in other.err
    done = own_people.line(plain.replace("keyclave", f"keyclave --approval {second}"))
    assert done.code == 0, done.err
    assert "revision 3 is in force" in done.out.decode()
    listed = json.loads(own_people.line("keyclave --json --profile auditor policy list").out.decode())
    assert [one["revision"] for one in listed] == [3, 2, 1]
    shown = own_people.line("keyclave --profile auditor policy show").out.decode()
    assert "quiet-hours" in shown
