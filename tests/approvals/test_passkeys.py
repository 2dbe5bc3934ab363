"""Approving with a passkey: what a device must prove, and that the proof holds offline."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.approvals.ward import Ward
from tests.authenticator import EDDSA, ES256, RS256, Passkey
from tests.visitor import Visitor, origin_of

_number = itertools.count()


def visitor(ward: Ward, **properties: Any) -> tuple[Visitor, str]:
    """Return a new operator with a passkey, and the token of their session."""
    body = {"principal": f"passkey-{next(_number)}", "role": "operator", "ttl_seconds": 3600}
    first = str(ward.live.post("/v1/credentials", "custodian", body).json()["token"])
    made = Visitor(ward.live, body["principal"], Passkey(origin_of(ward.live), **properties))  # type: ignore[arg-type]
    assert made.enrol(first).status_code in (200, 201)
    return made, made.login()


def sign(ward: Ward, approval: str, made: Visitor, token: str, **changes: Any) -> Any:
    begun = ward.post(f"/v1/approvals/{approval}/begin", token, {})
    assert begun.status_code == 200, begun.text
    said = begun.json()
    body = {"statement": said["statement"], "credential": made.passkey.get(said["publicKey"], **changes)}
    return ward.post(f"/v1/approvals/{approval}/sign", token, body)


@pytest.mark.requirement("R30", "R31")
@pytest.mark.parametrize("algorithm", [ES256, EDDSA, RS256])
def test_a_passkey_approves_and_the_proof_holds_offline(ward: Ward, doomed: str, tmp_path: Path, algorithm: int) -> None:
    approval = ward.ask(doomed)["id"]
    made, token = visitor(ward, algorithm=algorithm)
    assert sign(ward, approval, made, token).status_code == 200
    assert ward.post(f"/v1/approvals/{approval}/begin", token, {}).json()["code"] == "conflict"
    ward.sign(approval, "custodian")
    assert ward.execute(approval).status_code == 200
    bundle = ward.bundle(approval)
    code, report = ward.verify(bundle, tmp_path)
    assert (code, report["approved"]) == (0, True), report["faults"]
    pinned = ("--rp-id", bundle["relying"]["id"], "--origin", origin_of(ward.live))
    assert ward.verify(bundle, tmp_path, *pinned)[0] == 0
    assert ward.verify(bundle, tmp_path, "--rp-id", "elsewhere.example")[0] == 1
    assert ward.verify(bundle, tmp_path, "--origin", "https://elsewhere.example")[0] == 1
    (mine,) = [one for one in bundle["signatures"] if one["kind"] == "passkey"]
    for name in ("clientDataJSON", "authenticatorData", "signature"):
        response = mine["proof"]["response"]
        kept, middle = response[name], len(response[name]) // 2
        response[name] = kept[:middle] + ("A" if kept[middle] != "A" else "B") + kept[middle + 1 :]
        assert ward.verify(bundle, tmp_path)[0] == 1, name
        response[name] = kept


@pytest.mark.requirement("R30", "R31")
@pytest.mark.parametrize(
    "changes",
    [
        {"origin": "https://elsewhere.example"}, {"type": "webauthn.create"}, {"challenge": "AAAA"},
        {"key": Passkey("https://x").key}, {"user": b"somebody else"},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_an_assertion_that_is_not_this_approval_is_refused(ward: Ward, doomed: str, changes: dict[str, Any]) -> None:
    approval = ward.ask(doomed)["id"]
    made, token = visitor(ward)
    assert sign(ward, approval, made, token, **changes).status_code == 403
    assert ward.show(approval)["signatures"] == []


@pytest.mark.requirement("R30", "R31")
def test_without_the_user_verified_or_in_anothers_frame_it_is_refused(ward: Ward, doomed: str) -> None:
    approval = ward.ask(doomed)["id"]
    made, token = visitor(ward)
    made.passkey.verified = False
    assert sign(ward, approval, made, token).status_code == 403
    made.passkey.verified, made.passkey.cross_origin = True, True
    assert sign(ward, approval, made, token).status_code == 403
    made.passkey.cross_origin = False
    assert sign(ward, approval, made, token).status_code == 200


@pytest.mark.requirement("R30", "R31")
def test_who_has_only_a_password_signs_nothing(ward: Ward, doomed: str) -> None:
    body = {"principal": f"password-{next(_number)}", "role": "operator", "ttl_seconds": 3600}
    token = str(ward.live.post("/v1/credentials", "custodian", body).json()["token"])
    assert ward.post("/v1/authenticators/password", token, {"password": "four wards near a river"}).status_code in (200, 201)
    answer = ward.post(f"/v1/approvals/{ward.ask(doomed)['id']}/begin", token, {})
    assert (answer.status_code, answer.json()["code"]) == (403, "assurance_required")


@pytest.mark.requirement("R30", "R31")
def test_a_login_is_no_approval_and_an_old_assertion_serves_once(ward: Ward, doomed: str) -> None:
    approval, other = ward.ask(doomed)["id"], ward.ask(doomed)["id"]
    made, token = visitor(ward)
    said = ward.post(f"/v1/approvals/{approval}/begin", token, {}).json()
    login = made.login_request()["credential"]
    body = {"statement": said["statement"], "credential": login}
    assert ward.post(f"/v1/approvals/{approval}/sign", token, body).status_code == 403
    mine = {"statement": said["statement"], "credential": made.passkey.get(said["publicKey"])}
    assert ward.post(f"/v1/approvals/{other}/sign", token, mine).status_code == 403  # another request's
    assert ward.post(f"/v1/approvals/{approval}/sign", token, mine).status_code == 200
    assert ward.post(f"/v1/approvals/{approval}/sign", token, mine).status_code == 409


@pytest.mark.requirement("R30", "R31")
def test_a_counter_that_goes_back_suspends_the_passkey_and_approves_nothing(ward: Ward, doomed: str) -> None:
    approval = ward.ask(doomed)["id"]
    made, token = visitor(ward)
    made.passkey.count = 0
    made.passkey.step = 0
    refused = sign(ward, approval, made, token)
    assert refused.status_code == 403, refused.text
    assert ward.show(approval)["signatures"] == []
    assert ward.post(f"/v1/approvals/{approval}/begin", token, {}).status_code in (401, 403)
