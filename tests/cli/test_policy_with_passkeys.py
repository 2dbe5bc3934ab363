"""A policy is changed at a house of passkeys, from its first hour on: people enrol, log in, sign, and what is applied holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from keyclave_cli import profiles
from tests.cli.transcript import Prompt
from tests.live import Live, launch
from tests.visitor import Visitor

pytestmark = [pytest.mark.requirement("R30"), pytest.mark.requirement("R31")]
FORBID = '@id("no-imports")\nforbid (principal, action == Action::"key-import", resource);\n'
ROLES = ("custodian", "operator", "auditor")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Live]:
    server = launch(tmp_path, "--development", "--people", "passkeys", unseal=False)
    yield server
    server.stop()


def login(house: Live, role: str, visitor: Visitor) -> None:
    """Log in, and give the command line the session."""
    profiles.write_profile(role, None, house.url, house.ca_file, visitor.login(), replace=True)


def test_a_policy_is_applied_by_people_with_passkeys(house: Live, prompt: Prompt, tmp_path: Path) -> None:
    people = {role: Visitor(house, f"first-{role}") for role in ROLES}
    for role, visitor in people.items():
        profiles.write_profile(role, None, house.url, house.ca_file, house.tokens[role], replace=True)
        refused = prompt.line(f"keyclave --profile {role} policy show")
        assert refused.code == 1 and "assurance level" in refused.err  # a bearer token is good for enrolling alone
        assert visitor.enrol(house.tokens[role]).status_code == 201
        login(house, role, visitor)
    doctor = prompt.line("keyclave --profile custodian doctor")
    assert "enough people can approve" in doctor.text + doctor.err
    folder, pem = tmp_path / "bundle", tmp_path / "me.pem"
    pem.write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key = json.loads(prompt.line(f"keyclave --json --profile custodian authenticator enrol-key {pem}").text)["id"]
    assert prompt.line(f"keyclave --profile custodian policy export {folder}").code == 0
    (folder / "no-imports.cedar").write_text(FORBID)
    apply = f"keyclave --profile custodian policy apply {folder} --reason tidy --key {pem} --authenticator {key}"
    alone = prompt.line(apply)
    assert alone.code == 1 and "nobody acts alone" in alone.err
    asked = prompt.line(f"{apply} --request")
    assert asked.code == 0, asked.err
    approval = asked.text.split()[-1]

    def sign(role: str, token: str) -> tuple[int, str]:
        begun = house.post(f"/v1/approvals/{approval}/begin", token)
        if begun.status_code != 200:
            return begun.status_code, str(begun.json()["code"])
        said = begun.json()
        body = {"statement": said["statement"], "credential": people[role].passkey.get(said["publicKey"])}
        done = house.post(f"/v1/approvals/{approval}/sign", token, body)
        return done.status_code, str(done.json().get("status"))

    assert sign("auditor", house.tokens["auditor"]) == (403, "assurance_required")  # the old token signs nothing
    assert sign("custodian", people["custodian"].login())[0] == 403  # nor does whoever asked
    assert sign("auditor", people["auditor"].login()) == (200, "approved")
    early = prompt.line(f"keyclave --profile operator approval execute {approval}")
    assert early.code == 1  # somebody else's request
    done = prompt.line(f"keyclave --profile custodian approval execute {approval}")
    assert done.code == 0, done.err
    shown = prompt.line("keyclave --profile auditor policy show")
    assert "no-imports" in shown.text
    again = prompt.line(f"keyclave --profile custodian approval execute {approval}")
    assert again.code == 1 and "executed already" in again.err
    last = house.post("/v1/people/first-auditor/disable", people["operator"].login())
    assert last.status_code == 200, last.text  # the operator is left to approve what the custodian asks
    stuck = house.post("/v1/people/first-operator/disable", people["custodian"].login())
    assert (stuck.status_code, "--anyway" in stuck.json()["hint"]) == (403, True)
