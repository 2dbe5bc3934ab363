"""Passkeys: what a device must answer to count, each departure from it, and what an answer may tell whoever guesses names."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from keyclave.core.errors import Refused
from keyclave.identity.passkeys import Relying, verify_registration
from tests.authenticator import EDDSA, ES384, RS256, Passkey, b64url
from tests.live import Live
from tests.visitor import Visitor, origin_of

pytestmark = pytest.mark.requirement("R10", "R15", "R30")
Somebody = Callable[..., Visitor]


def begin(house: Live, invited: Callable[..., str], name: str) -> str:
    return str(house.post("/v1/enrolment/begin", body={"invitation": invited(name)}).json()["token"])


# ---- enrolling ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("what", "passkey", "changes"),
    [
        ("origin", {"origin": "https://localhost.evil.example"}, {}),
        ("plain-http", {"origin": "http://localhost"}, {}),
        ("rp", {"rp_id": "evil.example"}, {}),
        ("unverified", {"verified": False}, {}),
        ("algorithm", {"algorithm": ES384}, {}),
        ("framed", {"cross_origin": True}, {}),
        ("type", {}, {"type": "webauthn.get"}),
        ("challenge", {}, {"challenge": b64url(bytes(32))}),
        ("handle", {"handle": bytes(1024)}, {}),
    ],
)
def test_a_device_that_answers_wrongly_is_not_enrolled(
    house: Live, invited: Callable[..., str], what: str, passkey: dict[str, Any], changes: dict[str, Any]
) -> None:
    token = begin(house, invited, f"wrong-{what}")
    made = Passkey(**{"origin": origin_of(house), **passkey})
    answer = Visitor(house, what, made).enrol(token, **changes)
    assert (answer.status_code, answer.json()["code"]) in ((403, "refused"), (400, "malformed"))
    assert house.get("/v1/authenticators", token).json()["authenticators"] == []
    assert Visitor(house, what).enrol(token).status_code == 201  # nothing was used up


@pytest.mark.parametrize("algorithm", [EDDSA, RS256])
def test_devices_with_other_algorithms_of_the_list_log_in(somebody: Somebody, algorithm: int) -> None:
    assert somebody(algorithm=algorithm).try_login().json()["aal"] == 3


def test_a_ceremony_enrols_once_and_only_for_the_session_that_began_it(
    house: Live, invited: Callable[..., str], somebody: Somebody
) -> None:
    token = begin(house, invited, "once")
    begun = house.post("/v1/authenticators/passkey/begin", token).json()
    body = {"ceremony": begun["ceremony"], "credential": Passkey(origin_of(house)).create(begun["publicKey"])}
    other = somebody().login()
    assert house.post("/v1/authenticators/passkey/finish", other, body).json()["detail"] == "this ceremony is over"
    assert house.post("/v1/authenticators/passkey/finish", token, body).status_code == 201
    again = house.post("/v1/authenticators/passkey/finish", token, body)
    assert again.status_code in (403, 409)
    assert len(house.get("/v1/authenticators", token).json()["authenticators"]) == 1


def test_a_passkey_that_is_somebodys_is_nobody_elses(house: Live, invited: Callable[..., str], somebody: Somebody) -> None:
    first = somebody()
    token = begin(house, invited, "second-owner")
    thief = Visitor(house, "second-owner", Passkey(origin_of(house), handle=first.passkey.handle))
    assert (thief.enrol(token).status_code, thief.enrol(token).json()["code"]) == (409, "conflict")
    assert first.try_login().status_code == 200


# ---- logging in ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("origin", {"origin": "https://keys.evil.example"}),
        ("type", {"type": "webauthn.create"}),
        ("challenge", {"challenge": b64url(bytes(32))}),
        ("key", {"key": ec.generate_private_key(ec.SECP256R1())}),
        ("user", {"user": bytes(32)}),
    ],
)
def test_a_wrong_assertion_does_not_log_in(house: Live, somebody: Somebody, what: str, changes: dict[str, Any]) -> None:
    visitor = somebody()
    answer = visitor.try_login(**changes)
    assert (answer.status_code, answer.json()["detail"]) == (401, "the login did not succeed")
    assert visitor.try_login().status_code == 200


def test_flags_and_relying_party_of_an_assertion_are_looked_at(house: Live, somebody: Somebody) -> None:
    visitor = somebody()
    for name, wrong in (("verified", False), ("rp_id", "evil.example"), ("cross_origin", True), ("synced", True)):
        right = getattr(visitor.passkey, name)
        setattr(visitor.passkey, name, wrong)
        assert visitor.try_login().status_code == 401, name
        setattr(visitor.passkey, name, right)
    assert visitor.try_login().status_code == 200


def test_an_assertion_logs_in_once(house: Live, somebody: Somebody) -> None:
    for step in (0, 1):  # a replay is no copy of the key either: the passkey goes on
        visitor = somebody(step=step)
        body = visitor.login_request()
        assert house.post("/v1/login/passkey/finish", body=body).status_code == 200
        again = house.post("/v1/login/passkey/finish", body=body)
        assert (again.status_code, again.json()["detail"]) == (403, "this ceremony is over")
        assert visitor.try_login().status_code == 200


def test_an_assertion_of_another_ceremony_or_kind_does_not_log_in(house: Live, somebody: Somebody) -> None:
    visitor = somebody()
    token = visitor.login()
    stepping = visitor.step_up_request(token)
    assert house.post("/v1/login/passkey/finish", body=stepping).json()["detail"] == "this ceremony is over"
    body = visitor.login_request()
    body["ceremony"] = house.post("/v1/login/passkey/begin").json()["ceremony"]
    assert house.post("/v1/login/passkey/finish", body=body).status_code == 401
    for forged in ("", "A" * 100, body["ceremony"][:-2] + "AA", body["ceremony"] + "A"):
        answer = house.post("/v1/login/passkey/finish", body={**body, "ceremony": forged})
        assert answer.status_code in (400, 403), forged


def test_who_asks_by_name_gets_in_only_with_a_passkey_of_that_name(somebody: Somebody) -> None:
    ann, bob = somebody(), somebody()
    assert ann.try_login(ann.name).status_code == 200
    assert bob.try_login(ann.name).status_code == 401


def test_a_synced_passkey_is_level_two_and_never_three(house: Live, somebody: Somebody) -> None:
    visitor = somebody(synced=True)
    answer = visitor.try_login()
    assert (answer.json()["aal"], answer.json()["how"]) == (2, "passkey")
    shown = house.get("/v1/authenticators", answer.json()["token"]).json()["authenticators"][0]
    assert (shown["synced"], shown["aal"]) == (True, 2)
    assert somebody().try_login().json()["aal"] == 3


# ---- a copy of a key ----------------------------------------------------------------------------------------------------------
def test_a_counter_that_goes_back_suspends_the_passkey_ends_its_sessions_and_is_an_alarm(house: Live, somebody: Somebody) -> None:
    visitor = somebody()
    token = visitor.login()
    visitor.passkey.count = 0  # a copy of the key that was made before
    answer = visitor.try_login()
    assert (answer.status_code, "counter went back" in answer.json()["detail"]) == (403, True)
    assert house.get("/v1/whoami", token).status_code == 401
    visitor.passkey.count = 1000
    assert visitor.try_login().status_code == 401  # the true device's too, until a custodian has looked
    events = house.get("/v1/audit/events", "auditor", params={"operation": "login", "limit": "1000"}).json()["events"]
    alarms = [e for e in events if (e.get("detail") or {}).get("alarm") == "sign-count" and e["actor"] == visitor.name]
    assert [e["outcome"] for e in alarms] == ["refused"]


def test_a_device_that_does_not_count_is_no_copy(somebody: Somebody) -> None:
    visitor = somebody(step=0)
    assert [visitor.try_login().status_code for _ in range(3)] == [200, 200, 200]


def test_a_counter_that_falls_silent_is_a_copy_too(somebody: Somebody) -> None:
    visitor = somebody()
    visitor.login()
    visitor.passkey.count = visitor.passkey.step = 0
    assert "counter went back" in visitor.try_login().json()["detail"]


def test_a_step_up_with_a_copy_is_refused_too(house: Live, somebody: Somebody) -> None:
    visitor = somebody()
    token = visitor.login()
    visitor.passkey.count = 0
    answer = house.post("/v1/step-up/passkey/finish", token, visitor.step_up_request(token))
    assert (answer.status_code, house.get("/v1/whoami", token).status_code) == (403, 401)


# ---- what guessing names tells ------------------------------------------------------------------------------------------------
def test_an_unknown_name_is_answered_like_a_known_one_and_always_the_same(house: Live, somebody: Somebody) -> None:
    ann = somebody()
    shown: dict[str, list[list[str]]] = {}
    for name in (ann.name, "never-was", "first-operator", ann.name, "never-was", "first-operator"):
        options = house.post("/v1/login/passkey/begin", body={"principal": name}).json()["publicKey"]
        shown.setdefault(name, []).append([one["id"] for one in options["allowCredentials"]])
        assert set(options) == {"challenge", "rpId", "timeout", "userVerification", "allowCredentials"}
    for first, second in shown.values():
        assert first == second
        assert len(first) == len(set(first)) == 4
    assert b64url(ann.passkey.handle) in shown[ann.name][0]
    assert not set(shown["never-was"][0]) & set(shown["first-operator"][0])


def test_beginning_leaves_no_event_and_no_row(house: Live) -> None:
    size = house.get("/v1/status").json()["log"]["size"]
    for i in range(20):
        assert house.post("/v1/login/passkey/begin", body={"principal": f"flood-{i}"}).status_code == 200
    # counted refusals of other tests: one for each look at the clock
    assert house.get("/v1/status").json()["log"]["size"] - size < 10


# ---- which devices may be enrolled --------------------------------------------------------------------------------------------
def vendor(aaguid: bytes | None) -> tuple[Any, list[x509.Certificate], bytes]:
    """Return a vendor's attestation key, its chain, and the root (PEM)."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)

    def name(common: str) -> x509.Name:
        oid = x509.NameOID
        return x509.Name(
            [
                x509.NameAttribute(oid.COUNTRY_NAME, "US"),
                x509.NameAttribute(oid.ORGANIZATION_NAME, "Vendor"),
                x509.NameAttribute(oid.ORGANIZATIONAL_UNIT_NAME, "Authenticator Attestation"),
                x509.NameAttribute(oid.COMMON_NAME, common),
            ]
        )

    def builder(subject: str, public: Any, *, ca: bool) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder(subject_name=name(subject), issuer_name=name("root")).public_key(public)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        return made.not_valid_after(now + datetime.timedelta(days=9)).add_extension(x509.BasicConstraints(ca, None), True)

    root = builder("root", root_key.public_key(), ca=True).sign(root_key, hashes.SHA256())
    leaf = builder("device", key.public_key(), ca=False)
    if aaguid is not None:
        model = x509.ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4")
        leaf = leaf.add_extension(x509.UnrecognizedExtension(model, b"\x04\x10" + aaguid), False)
    return key, [leaf.sign(root_key, hashes.SHA256())], root.public_bytes(Encoding.PEM)


MODEL, OTHER = bytes(range(16)), bytes(range(1, 17))
OPTIONS: dict[str, Any] = {"user": {"id": b64url(b"u")}, "challenge": b64url(bytes(32))}


def register(passkey: Passkey, root: bytes, **more: Any) -> Any:
    relying = Relying(
        id="localhost", name="k", origins=(passkey.origin,), attestation="direct", roots=(root,),
        aaguids=frozenset({"00010203-0405-0607-0809-0a0b0c0d0e0f"}), **more,
    )  # fmt: skip
    return verify_registration(relying, passkey.create(OPTIONS), bytes(32))


def test_a_device_of_an_allowed_model_proves_it_by_certificate() -> None:
    key, chain, root = vendor(MODEL)
    made = register(Passkey("https://localhost", aaguid=MODEL, attestation=(key, chain)), root)
    assert (made.aaguid, made.aal) == ("00010203-0405-0607-0809-0a0b0c0d0e0f", 3)


def test_devices_that_do_not_prove_an_allowed_model_are_refused() -> None:
    key, chain, root = vendor(MODEL)
    stranger = vendor(MODEL)
    wrong = [
        Passkey("https://localhost", aaguid=MODEL),  # no attestation
        Passkey("https://localhost", aaguid=MODEL, attestation=(stranger[0], stranger[1])),  # of another root
        Passkey("https://localhost", aaguid=MODEL, attestation=(stranger[0], chain)),  # signed by another key
        Passkey("https://localhost", aaguid=OTHER, attestation=(key, chain)),  # the certificate is of another model
    ]
    for passkey in wrong:
        with pytest.raises(Refused):
            register(passkey, root)
    other_key, other_chain, other_root = vendor(OTHER)
    with pytest.raises(Refused):  # proved, but not on the list
        register(Passkey("https://localhost", aaguid=OTHER, attestation=(other_key, other_chain)), other_root)


def test_what_was_wrong_is_kept_from_whoever_forges(tmp_path: Path) -> None:
    key, chain, root = vendor(MODEL)
    with pytest.raises(Refused) as wrong:
        register(Passkey("https://localhost", aaguid=OTHER, attestation=(key, chain)), root)
    assert wrong.value.detail == "the passkey was not accepted"
    assert any("another model" in note for note in wrong.value.__notes__)
