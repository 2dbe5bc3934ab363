"""Invitations: two people let a third one in, once; everything else an invitation could be good for, it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.live import Live
from tests.visitor import Visitor

pytestmark = pytest.mark.requirement("R10", "R15", "R30")
Somebody = Callable[..., Visitor]


def begin(house: Live, token: str) -> Any:
    return house.post("/v1/enrolment/begin", body={"invitation": token})


def invite(house: Live, name: str, by: str = "operator", **more: Any) -> Any:
    return house.post("/v1/invitations", by, {"principal": name, "role": "person", **more})


def test_an_invitation_opens_nothing_until_a_second_person_stands_behind_it(house: Live) -> None:
    made = invite(house, "ann").json()
    assert made["state"] == "waiting"
    assert begin(house, made["token"]).status_code == 401
    confirm = f"/v1/invitations/{made['id']}/confirm"
    assert house.post(confirm, "operator").json()["code"] == "separation_of_duties"
    assert house.post(confirm, "custodian").json()["state"] == "open"
    assert house.post(confirm, "auditor").json()["code"] == "refused"  # once is enough
    answer = begin(house, made["token"])
    assert (answer.json()["principal"], answer.json()["invited_by"]) == ("ann", "first-operator")
    assert Visitor(house, "ann").enrol(answer.json()["token"]).status_code == 201


def test_an_invitation_is_used_once_by_the_first_authenticator(house: Live, invited: Callable[..., str]) -> None:
    token = invited("used-once")
    first, second = begin(house, token).json()["token"], begin(house, token).json()["token"]
    assert Visitor(house, "used-once").enrol(first).status_code == 201
    assert begin(house, token).status_code == 401
    assert house.get("/v1/whoami", second).status_code == 401  # the other browser that began with it
    assert house.post("/v1/authenticators/recovery", first).status_code == 201  # this one may go on for its quarter of an hour


def test_used_expired_waiting_revoked_and_unknown_look_the_same(house: Live, invited: Callable[..., str]) -> None:
    used = invited("looks-used")
    Visitor(house, "looks-used").enrol(begin(house, used).json()["token"])
    revoked = invite(house, "looks-revoked").json()
    house.post(f"/v1/invitations/{revoked['id']}/confirm", "custodian")
    assert house.post(f"/v1/invitations/{revoked['id']}/revoke", "operator").json()["state"] == "revoked"
    waiting = invited("looks-waiting", confirmed=False)
    answers = [begin(house, token) for token in (used, revoked["token"], waiting, "kci_" + "A" * 43, "x")]
    assert {(a.status_code, a.text) for a in answers} == {(401, answers[0].text)}


def test_a_session_of_an_invitation_is_good_for_enrolling_alone(house: Live, invited: Callable[..., str]) -> None:
    token = begin(house, invited("only-enrols")).json()["token"]
    assert house.get("/v1/whoami", token).json()["enrolling"] is True
    for method, path in (
        ("GET", "/v1/keys"), ("GET", "/v1/sessions"), ("GET", "/v1/audit/events"), ("GET", "/v1/log/checkpoints"),
        ("POST", "/v1/step-up/passkey/begin"), ("POST", "/v1/seal"), ("GET", "/v1/people"),
    ):  # fmt: skip
        assert house.request(method, path, token).status_code == 403, path


def test_an_approval_that_is_only_named_confirms_nothing(house: Live) -> None:
    body = {"principal": "shortcut", "role": "person"}
    answer = house.post("/v1/invitations", "operator", body, headers={"keyclave-approval": "apr_" + "a" * 26})
    assert answer.status_code != 201 or answer.json()["state"] == "waiting"


def test_nobody_invites_or_confirms_themselves(house: Live) -> None:
    assert invite(house, "first-operator").json()["code"] == "separation_of_duties"
    made = invite(house, "first-custodian", role="custodian", by="operator")
    assert made.json()["code"] == "refused"  # an operator gives no duty
    again = invite(house, "self-made").json()
    assert house.post(f"/v1/invitations/{again['id']}/confirm", "operator").json()["code"] == "separation_of_duties"


@pytest.mark.parametrize("name", ["spiffe:hospital/app", "cert:x", "K8S:pod", "local:ann", "nobody", "ceremony", "share-holder"])
def test_names_of_other_sources_and_of_the_server_are_not_given(house: Live, name: str) -> None:
    assert invite(house, name).json()["code"] == "malformed"
    issued = {"principal": name, "role": "auditor", "ttl_seconds": 600}
    assert house.post("/v1/credentials", "custodian", issued).status_code in (400, 403)


def test_a_name_with_another_duty_is_not_invited(house: Live) -> None:
    assert invite(house, "first-auditor").json()["code"] == "separation_of_duties"
    made = house.post("/v1/invitations", "operator", {"principal": "bot", "role": "application"})
    assert made.status_code in (400, 403)


def test_who_lost_everything_is_invited_again_under_the_same_name(
    house: Live, somebody: Somebody, invited: Callable[..., str]
) -> None:
    visitor = somebody()
    again = Visitor(house, visitor.name)
    assert again.enrol(begin(house, invited(visitor.name)).json()["token"]).status_code == 201
    assert again.try_login().json()["principal"] == visitor.name


def test_roles_that_policy_does_not_know_are_not_promised(house: Live) -> None:
    answer = invite(house, "with-roles", by="custodian", role="operator", roles=["night-shift"])
    assert answer.json()["code"] in ("malformed", "approval_required")


# ---- further authenticators ---------------------------------------------------------------------------------------------------
def test_a_weaker_session_does_not_breed_a_stronger_authenticator(house: Live, somebody: Somebody) -> None:
    from tests.authenticator import Passkey

    strong = somebody()
    phone = Visitor(house, strong.name, Passkey(strong.passkey.origin, synced=True))
    assert phone.enrol(strong.login()).status_code == 201
    begun = house.post("/v1/authenticators/passkey/begin", phone.login())
    assert (begun.status_code, begun.json()["code"]) == (403, "assurance_required")
    assert house.post("/v1/authenticators/passkey/begin", strong.login()).status_code == 200


def test_what_one_authenticator_opened_ends_with_it(house: Live, somebody: Somebody) -> None:
    from tests.authenticator import Passkey

    first = somebody()
    second = Visitor(house, first.name, Passkey(first.passkey.origin))
    second.enrol(first.login())
    kept, lost = first.login(), second.login()
    listed = house.get("/v1/authenticators", kept).json()["authenticators"]
    assert house.post(f"/v1/authenticators/{listed[1]['id']}/revoke", kept, {"reason": "lost"}).json()["revoked_why"] == "revoked"
    assert [house.get("/v1/whoami", token).status_code for token in (kept, lost)] == [200, 401]
    assert second.try_login().status_code == 401


def test_authenticators_of_others_are_neither_seen_nor_revoked(house: Live, somebody: Somebody) -> None:
    ann, bob = somebody(), somebody()
    token = bob.login()
    assert house.get("/v1/authenticators", token, params={"principal": ann.name}).status_code == 403
    one = house.get("/v1/authenticators", ann.login()).json()["authenticators"][0]["id"]
    assert house.post(f"/v1/authenticators/{one}/revoke", token).status_code == 404
    assert house.post(f"/v1/authenticators/{one}/revoke", "custodian", {"reason": "stolen"}).status_code == 200
    assert ann.try_login().status_code == 401


# ---- keys that sign approvals -------------------------------------------------------------------------------------------------
def test_a_key_is_enrolled_by_whoever_holds_it(house: Live, somebody: Somebody) -> None:
    import base64

    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    visitor = somebody()
    token = visitor.login()
    good = visitor.key_request(token)
    wrong = [
        {**good, "proof": base64.b64encode(b"\x30\x06\x02\x01\x01\x02\x01\x01").decode()},
        {**good, "proof": visitor.key_request(token)["proof"]},  # of another ceremony and key
        {**good, "public_key": visitor.key_request(token)["public_key"]},
    ]
    other = ec.generate_private_key(ec.SECP521R1()).public_key()
    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    for key in (other, rsa_key):
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        wrong.append({**good, "public_key": pem})
    for body in wrong:
        assert house.post("/v1/authenticators/key", token, body).status_code in (400, 403)
    made = house.post("/v1/authenticators/key", token, good)
    assert (made.status_code, made.json()["kind"]) == (201, "key")
    assert house.post("/v1/authenticators/key", token, good).status_code == 403  # the ceremony is over
    events = house.get("/v1/audit/events", "auditor", params={"operation": "authenticator-enrol", "limit": "1000"}).json()[
        "events"
    ]
    said = next(e for e in events if e["id"] == made.json()["event"])["detail"]
    assert said == {
        "aal": 2, "authenticator": made.json()["id"], "kind": "key", "principal": visitor.name,
        "public_sha256": made.json()["public_sha256"],
    }  # fmt: skip
    assert hashes.SHA256.digest_size * 2 == len(said["public_sha256"])


def test_who_is_invited_to_a_duty_is_approved_before_and_needs_no_second_word(house: Live) -> None:
    body = {"principal": "new-operator", "role": "operator"}
    alone = house.post("/v1/invitations", "custodian", body, alone=True)
    assert alone.json()["code"] == "approval_required"
    made = house.post("/v1/invitations", "custodian", body)
    assert (made.status_code, made.json()["state"]) == (201, "open")
    assert made.json()["confirmed_by"].startswith("apr_")
    visitor = Visitor(house, "new-operator")
    assert visitor.enrol(begin(house, made.json()["token"]).json()["token"]).status_code == 201
    assert house.get("/v1/whoami", visitor.login()).json()["role"] == "operator"
