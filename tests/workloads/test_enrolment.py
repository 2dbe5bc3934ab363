"""Enrolment, issue, reissue and revocation of our own certificates, by real clients over real TLS."""

from __future__ import annotations

import base64
import socket
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from tests.workloads.certificates import signing_request, usage
from tests.workloads.conftest import DOMAIN, OWN, House, identity_of

RECORD = {"plaintext": base64.b64encode(b"record").decode()}
ENCRYPT = "/v1/keys/ward-records/encrypt"


def asked(house: House, token: str, csr: str, **more: Any) -> httpx.Response:
    with house.client(None) as client:
        return client.post("/v1/certificates", json={"csr": csr, **more}, headers={"authorization": f"Bearer {token}"})


@pytest.mark.requirement("R32", "R33")
def test_a_token_becomes_a_certificate_of_a_day_that_opens_what_was_registered(house: House) -> None:
    identity = house.workload("ward/first")
    found = identity.certificate
    assert found.not_valid_after_utc - found.not_valid_before_utc <= timedelta(hours=24)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(f"spiffe://{OWN}/ward/first")]
    assert {one.oid for one in found.extensions} == {
        ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME, ExtensionOID.SUBJECT_KEY_IDENTIFIER, ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    }  # fmt: skip
    with house.client(identity) as client:
        assert client.post(ENCRYPT, json=RECORD).status_code == 200
        assert client.post("/v1/keys/ward-records/decrypt", json={"ciphertext": "AAAA"}).status_code in (403, 404)
        me = client.get("/v1/whoami").json()
    assert me["principal"] == f"spiffe://{OWN}/ward/first"
    assert me["credential"] == identity_of(identity)


@pytest.mark.requirement("R33")
def test_a_live_certificate_gets_the_next_one_and_a_revoked_one_does_not(house: House) -> None:
    first = house.workload("ward/again")
    second = house.issue(None, house.client(first))
    assert second.certificate.serial_number != first.certificate.serial_number
    with house.client(first) as client:
        assert client.get("/v1/whoami").status_code == 200
        revoked = house.live.post(f"/v1/certificates/{identity_of(first)}/revoke", "operator", {"reason": "stolen"})
        assert revoked.status_code == 200, revoked.text
        answer = client.post("/v1/certificates", json={"csr": signing_request()[0]})  # the same connection
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        assert client.post(ENCRYPT, json=RECORD).status_code == 401
    with house.client(second) as client:
        assert client.post(ENCRYPT, json=RECORD).status_code == 200


@pytest.mark.requirement("R32")
def test_a_certificate_of_an_outside_authority_is_not_reissued_here(house: House) -> None:
    name = f"spiffe://{DOMAIN}/not/ours"
    house.register(name, ["encrypt"], ["ward-*"])
    with house.client(house.outside.svid(name)) as client:
        answer = client.post("/v1/certificates", json={"csr": signing_request()[0]})
    assert answer.status_code == 403


@pytest.mark.requirement("R33")
def test_an_enrolment_token_is_used_as_often_as_it_says_even_by_racers(house: House) -> None:
    name = f"spiffe://{OWN}/race"
    house.register(name, ["encrypt"], ["ward-*"])
    token = house.enrolment(name, uses=3)["token"]
    requests = [signing_request()[0] for _ in range(12)]
    with ThreadPoolExecutor(12) as racers:
        answers = list(racers.map(lambda csr: asked(house, token, csr), requests))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [401] * 9
    assert asked(house, token, requests[0]).status_code == 401


@pytest.mark.requirement("R33")
def test_a_lost_answer_is_asked_for_again_and_uses_nothing_up(house: House) -> None:
    name = f"spiffe://{OWN}/lost"
    house.register(name, ["encrypt"], ["ward-*"])
    token, csr = house.enrolment(name)["token"], signing_request()[0]
    headers = {"authorization": f"Bearer {token}", "idempotency-key": "once"}
    with house.client(None) as client:
        first = client.post("/v1/certificates", json={"csr": csr}, headers=headers)
        again = client.post("/v1/certificates", json={"csr": csr}, headers=headers)
    assert (first.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    assert first.json()["certificate"] == again.json()["certificate"]


@pytest.mark.requirement("R29", "R32")
def test_an_enrolment_token_is_good_for_nothing_else(house: House) -> None:
    name = f"spiffe://{OWN}/only"
    house.register(name, ["encrypt"], ["ward-*"])
    token = house.enrolment(name)["token"]
    for method, path, body in [
        ("POST", ENCRYPT, RECORD), ("POST", "/v1/random", {"bytes": 8}), ("POST", "/v1/tokens", {}),
        ("POST", "/v1/credentials/renew", {}), ("GET", "/v1/keys/ward-records", None), ("GET", "/v1/audit/receipts/x-1", None),
    ]:  # fmt: skip
        for url in (house.data_url, house.live.url):
            with house.client(None, url=url) as client:
                answer = client.request(method, path, json=body, headers={"authorization": f"Bearer {token}"})
                assert answer.status_code == 403, (path, answer.text)


@pytest.mark.requirement("R33")
def test_a_revoked_token_and_a_guessed_one_are_the_same_nobody(house: House) -> None:
    name = f"spiffe://{OWN}/revoked"
    house.register(name, ["encrypt"], ["ward-*"])
    made = house.enrolment(name)
    assert house.live.post(f"/v1/enrolments/{made['id']}/revoke", "operator", {"reason": "mislaid"}).status_code == 200
    csr = signing_request()[0]
    answers = [asked(house, token, csr).json() for token in (made["token"], "kce_" + "A" * 43, "kce_", "kce_" + "x" * 90)]
    assert {answer["code"] for answer in answers} == {"unauthenticated"}
    assert len({answer["detail"] for answer in answers}) == 1


@pytest.mark.requirement("R32")
@pytest.mark.parametrize(
    "name", [f"spiffe://{OWN}", f"spiffe://{OWN}/a//b", f"spiffe://{DOMAIN}/x", "cert:devices:x", f"spiffe://{OWN}x/a"]
)
def test_no_token_is_made_for_a_name_that_is_not_ours(house: House, name: str) -> None:
    assert house.live.post("/v1/enrolments", "operator", {"name": name}).status_code == 400


@pytest.mark.requirement("R32")
def test_no_token_is_made_for_a_workload_that_nobody_registered(house: House) -> None:
    answer = house.live.post("/v1/enrolments", "operator", {"name": f"spiffe://{OWN}/unheard-of"})
    assert (answer.status_code, answer.json()["hint"]) == (403, "register it first: `keyclave workload register`")


@pytest.mark.requirement("R32")
def test_a_token_for_many_names_gives_only_names_below_its_own(house: House) -> None:
    house.register(f"spiffe://{OWN}/fleet/*", ["encrypt"], ["ward-*"])
    token = house.enrolment(f"spiffe://{OWN}/fleet/*", uses=100)["token"]
    uri = x509.UniformResourceIdentifier
    good = asked(house, token, signing_request(uri(f"spiffe://{OWN}/fleet/a/1"))[0])
    assert good.json()["name"] == f"spiffe://{OWN}/fleet/a/1"
    refused = [
        "", f"spiffe://{OWN}/fleet", f"spiffe://{OWN}/fleets/a", f"spiffe://{OWN}/fleet/../admin", f"spiffe://{OWN}/fleet/",
        f"spiffe://{OWN}/FLEET/a", f"spiffe://{OWN.upper()}/fleet/a", f"spiffe://{OWN}./fleet/a", f"spiffe://x@{OWN}/fleet/a",
        f"spiffe://{OWN}:443/fleet/a", f"spiffe://{OWN}/fleet/%61", f"spiffe://{OWN}/fleet/a?b", f"spiffe://{OWN}/fleet/a#b",
        f"spiffe://{DOMAIN}/fleet/a", f"SPIFFE://{OWN}/fleet/a", f"https://{OWN}/fleet/a",
    ]  # fmt: skip
    for name in refused:
        answer = asked(house, token, signing_request(*([uri(name)] if name else []))[0])
        assert answer.status_code in (400, 403), (name, answer.text)


def _two_names() -> tuple[x509.GeneralName, ...]:
    return x509.UniformResourceIdentifier(f"spiffe://{OWN}/evil"), x509.UniformResourceIdentifier(f"spiffe://{OWN}/evil")


def _tampered() -> str:
    csr = x509.load_pem_x509_csr(signing_request()[0].encode())
    der = bytearray(csr.public_bytes(Encoding.DER))
    der[-1] ^= 1
    return pem(bytes(der))


def _of_another_key() -> str:
    """A request whose key was put there afterwards: nobody proved that they hold it."""
    der = x509.load_pem_x509_csr(signing_request()[0].encode()).public_bytes(Encoding.DER)
    other = x509.load_pem_x509_csr(signing_request()[0].encode()).public_key()
    numbers = x509.load_der_x509_csr(der).public_key().public_numbers()  # type: ignore[union-attr]
    point = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")  # type: ignore[union-attr]
    theirs = other.public_numbers()  # type: ignore[union-attr]
    return pem(der.replace(point, theirs.x.to_bytes(32, "big") + theirs.y.to_bytes(32, "big")))  # type: ignore[union-attr]


def _edwards() -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(Encoding.PEM).decode()


def pem(der: bytes) -> str:
    text = base64.b64encode(der).decode()
    lines = "\n".join(text[i : i + 64] for i in range(0, len(text), 64))
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{lines}\n-----END CERTIFICATE REQUEST-----\n"


EVIL: dict[str, Any] = {
    "to be an authority": lambda: signing_request(extensions=[(x509.BasicConstraints(ca=True, path_length=None), True)])[0],
    "not to be one, which is ours to say": lambda: signing_request(
        extensions=[(x509.BasicConstraints(ca=False, path_length=None), True)]
    )[0],
    "to sign certificates": lambda: signing_request(extensions=[(usage("key_cert_sign"), True)])[0],
    "another use": lambda: signing_request(extensions=[(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)])[0],
    "an unknown extension": lambda: signing_request(
        extensions=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)]
    )[0],
    "a DNS name": lambda: signing_request(x509.DNSName("kms.hospital.example"))[0],
    "a DNS name beside": lambda: signing_request(
        x509.UniformResourceIdentifier(f"spiffe://{OWN}/evil"), x509.DNSName("kms.hospital.example")
    )[0],
    "two names": lambda: signing_request(*_two_names())[0],
    "a password attribute": lambda: signing_request(attributes=[(x509.oid.AttributeOID.CHALLENGE_PASSWORD, b"hunter2")])[0],
    "a small RSA key": lambda: signing_request(key=rsa.generate_private_key(65537, 1024))[0],  # noqa: S505
    "exponent 3": lambda: signing_request(key=rsa.generate_private_key(3, 2048))[0],
    "another curve": lambda: signing_request(key=ec.generate_private_key(ec.SECP256K1()))[0],
    "an Edwards curve": _edwards,
    "nothing in the block": lambda: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    "a signature that does not hold": _tampered,
    "a key that somebody else holds": _of_another_key,
    "two requests": lambda: signing_request()[0] + signing_request()[0],
    "bytes behind": lambda: pem(x509.load_pem_x509_csr(signing_request()[0].encode()).public_bytes(Encoding.DER) + b"\0"),
    "text before": lambda: "Subject: admin\n" + signing_request()[0],
    "something else": lambda: "nothing",
}  # fmt: skip


@pytest.mark.requirement("R32")
@pytest.mark.parametrize("wish", EVIL)
def test_a_request_that_asks_for_more_than_its_name_is_refused_whole(house: House, wish: str) -> None:
    name = f"spiffe://{OWN}/evil"
    if wish == next(iter(EVIL)):
        house.register(name, ["encrypt"], ["ward-*"])
    token = house.enrolment(name)["token"]
    answer = asked(house, token, EVIL[wish]())
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed"), answer.text
    assert asked(house, token, signing_request()[0]).status_code == 201  # nothing was used up by it


@pytest.mark.requirement("R32")
def test_keys_of_the_usual_kinds_are_certified(house: House) -> None:
    name = f"spiffe://{OWN}/kinds"
    house.register(name, ["encrypt"], ["ward-*"])
    token = house.enrolment(name, uses=3)["token"]
    for key, hashed in [
        (ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()), (rsa.generate_private_key(65537, 2048), hashes.SHA256()),
    ]:  # fmt: skip
        assert asked(house, token, signing_request(key=key, hashed=hashed)[0]).status_code == 201


@pytest.mark.requirement("R32")
def test_an_old_hash_is_refused(house: House, tmp_path: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "key", "-subj", "/CN=x", "-sha1", "-out", tmp_path / "csr"],
        check=True, capture_output=True,
    )  # fmt: skip
    name = f"spiffe://{OWN}/old"
    house.register(name, ["encrypt"], ["ward-*"])
    answer = asked(house, house.enrolment(name)["token"], (tmp_path / "csr").read_text())
    assert (answer.status_code, "SHA-256" in answer.json()["hint"]) == (400, True)


@pytest.mark.requirement("R33")
def test_a_shorter_life_is_given_and_a_longer_one_is_not(house: House) -> None:
    name = f"spiffe://{OWN}/short"
    house.register(name, ["encrypt"], ["ward-*"])
    token = house.enrolment(name, uses=2)["token"]
    made = x509.load_pem_x509_certificate(
        asked(house, token, signing_request()[0], ttl_seconds=600).json()["certificate"].encode()
    )
    assert made.not_valid_after_utc - made.not_valid_before_utc == timedelta(seconds=600)
    assert asked(house, token, signing_request()[0], ttl_seconds=86_401).status_code == 400


@pytest.mark.requirement("R33")
def test_who_is_disabled_neither_calls_nor_enrols_and_comes_back_when_enabled(house: House) -> None:
    name = f"spiffe://{OWN}/paused"
    registered = house.register(name, ["encrypt"], ["ward-*"])
    token = house.enrolment(name, uses=5)["token"]
    identity = house.issue(token)
    with house.client(identity) as client:
        assert client.post(ENCRYPT, json=RECORD).status_code == 200
        path = f"/v1/workloads/{registered['id']}"
        assert house.live.request("PATCH", path, "operator", json={"enabled": False}).status_code == 200
        assert client.post(ENCRYPT, json=RECORD).status_code == 401
        assert asked(house, token, signing_request()[0]).status_code == 403
        assert house.live.request("PATCH", path, "operator", json={"enabled": True}).status_code == 200
        assert client.post(ENCRYPT, json=RECORD).status_code == 200
        narrower = {"scope": {"operations": ["encrypt"], "keys": ["elsewhere"]}}
        assert house.live.request("PATCH", path, "operator", json=narrower).status_code == 200
        assert client.post(ENCRYPT, json=RECORD).status_code == 404


def resumed(house: House, context: ssl.SSLContext, session: ssl.SSLSession | None, request: bytes) -> tuple[bytes, Any, bool]:
    """Send one request over a connection of its own; return the answer, the session to resume, and whether this one was."""
    with (
        socket.create_connection(("127.0.0.1", house.data_port), timeout=20) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as tls,
    ):
        tls.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer or len(answer.split(b"\r\n\r\n", 1)[1]) < _length(answer):
            piece = tls.recv(65536)
            if not piece:
                break
            answer += piece
        return answer, tls.session, tls.session_reused


def _length(answer: bytes) -> int:
    return int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])


@pytest.mark.requirement("R32")
def test_a_resumed_session_keeps_the_identity_and_honours_revocation(house: House) -> None:
    identity = house.workload("ward/resumed")
    context = identity.context(house.folder, house.live.ca_file, "resumed")
    asks = b"GET /v1/whoami HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    first, session, was = resumed(house, context, None, asks)
    assert (first[:12], was) == (b"HTTP/1.1 200", False)
    second, session, was = resumed(house, context, session, asks)
    assert (second[:12], was) == (b"HTTP/1.1 200", True)
    assert f"spiffe://{OWN}/ward/resumed".encode() in second
    assert house.live.post(f"/v1/certificates/{identity_of(identity)}/revoke", "custodian", {}).status_code == 200
    third, _, was = resumed(house, context, session, asks)
    assert (third[:12], was) == (b"HTTP/1.1 401", True)
