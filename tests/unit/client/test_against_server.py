"""The whole SDK against a live server: every call of the contract, and local envelopes whose data keys the server wraps."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from keyclave_client import NO_CACHE, Client, errors, inspect
from tests.live import Live

CONTEXT = {"patient": "p-17", "purpose": "treatment"}
USES = [
    "encrypt", "decrypt", "re-encrypt", "data-key", "data-key-pair", "wrap", "unwrap", "sign", "verify", "mac", "verify-mac",
    "random", "derive-shared-secret", "encapsulate", "decapsulate",
]  # fmt: skip
ABOUT: dict[str, Any] = {"owner": "cardiology", "environment": "production", "classification": "ephi"}


def client_of(live: Live, role: str) -> Client:
    return Client(live.url, live.tokens.get(role, role), ca_file=live.ca_file)


@pytest.fixture(scope="module")
def custodian(live: Live) -> Iterator[Client]:
    with client_of(live, "custodian") as client:
        yield client


@pytest.fixture(scope="module")
def app(live: Live) -> Iterator[Client]:
    with client_of(live, live.token(USES, ["sdk-*"])) as client:
        yield client


@pytest.mark.requirement("R14")
def test_using_keys_in_place(custodian: Client, app: Client) -> None:
    made = custodian.create_key("sdk-use", **ABOUT)
    sealed = app.encrypt("sdk-use", b"record", CONTEXT)
    assert (sealed.key, sealed.version) == (made.id, 1) and sealed.event
    assert app.decrypt(made.id, sealed.ciphertext, CONTEXT).plaintext == b"record"
    moved = app.re_encrypt("sdk-use", sealed.ciphertext, CONTEXT, to_context={"patient": "p-18"})
    assert app.decrypt("sdk-use", moved.ciphertext, {"patient": "p-18"}).plaintext == b"record"
    with pytest.raises(errors.Undecipherable):
        app.decrypt("sdk-use", moved.ciphertext, CONTEXT)
    wrapped = app.wrap("sdk-use", b"k" * 32, CONTEXT)
    assert app.unwrap("sdk-use", wrapped.wrapped, CONTEXT).material == b"k" * 32
    key = app.data_key("sdk-use", 32, CONTEXT)
    assert app.unwrap("sdk-use", key.wrapped, CONTEXT).material == key.plaintext
    assert app.data_key("sdk-use", plaintext=False).plaintext is None
    assert "PUBLIC KEY" in app.data_key_pair("sdk-use", "ecdsa-p256", CONTEXT).public_key
    assert len(app.random(48)) == 48


@pytest.mark.requirement("R14")
def test_signing_and_macs(custodian: Client, app: Client) -> None:
    custodian.create_key("sdk-sign", spec="ecdsa-p256", purpose="sign", **ABOUT)
    signature = app.sign("sdk-sign", b"order")
    app.verify("sdk-sign", b"order", signature.signature)
    with pytest.raises(errors.InvalidSignature):
        app.verify("sdk-sign", b"another order", signature.signature)
    assert "PUBLIC KEY" in custodian.public_key("sdk-sign").public_key
    custodian.create_key("sdk-mac", spec="hmac-sha-256", purpose="mac", **ABOUT)
    mac = app.mac("sdk-mac", b"order")
    app.verify_mac("sdk-mac", b"order", mac.mac)
    with pytest.raises(errors.InvalidSignature):
        app.verify_mac("sdk-mac", b"order", bytes(len(mac.mac)))


@pytest.mark.requirement("R14")
def test_agreeing_and_encapsulating(custodian: Client, app: Client) -> None:
    for name in ("sdk-one", "sdk-two"):
        custodian.create_key(name, spec="ecdh-p256", purpose="agree", **ABOUT)
    one, two = (custodian.public_key(name).public_key for name in ("sdk-one", "sdk-two"))
    agreed = app.derive_shared_secret("sdk-one", two, "pump-7").shared_secret
    assert agreed == app.derive_shared_secret("sdk-two", one, "pump-7").shared_secret
    assert agreed != app.derive_shared_secret("sdk-two", one, "pump-8").shared_secret
    custodian.create_key("sdk-kem", spec="ml-kem-768", purpose="encapsulate", **ABOUT)
    made = app.encapsulate("sdk-kem")
    assert made.ciphertext and app.decapsulate("sdk-kem", made.ciphertext).shared_secret == made.shared_secret
    custodian.create_key("sdk-rsa", spec="rsa-3072", purpose="decrypt", **ABOUT)
    public = load_pem_public_key(custodian.public_key("sdk-rsa").public_key.encode())
    assert isinstance(public, RSAPublicKey)
    sealed = public.encrypt(b"a secret", OAEP(MGF1(SHA256()), SHA256(), None))
    assert app.open("sdk-rsa", sealed).plaintext == b"a secret"


@pytest.mark.requirement("R14")
def test_batches(custodian: Client, app: Client) -> None:
    custodian.create_key("sdk-batch", **ABOUT)
    plaintexts = [str(number).encode() for number in range(100)]
    sealed = app.batch("encrypt", "sdk-batch", [{"plaintext": p, "context": CONTEXT} for p in plaintexts])
    items = [{"ciphertext": answer.ciphertext, "context": CONTEXT} for answer in sealed]
    items[7] = {"ciphertext": b"broken", "context": CONTEXT}
    opened = app.batch("decrypt", "sdk-batch", items)

    assert isinstance(opened[7], errors.Undecipherable)
    assert [answer.plaintext for n, answer in enumerate(opened) if n != 7] == [p for n, p in enumerate(plaintexts) if n != 7]
    with pytest.raises(errors.Malformed):
        app.batch("random", None, [{"bytes": 1}] * 1001)


@pytest.mark.requirement("R4", "R11", "R24", "P5")
@pytest.mark.parametrize("rewrapped", [False, True])
def test_local_envelopes(live: Live, custodian: Client, app: Client, tmp_path: Path, rewrapped: bool) -> None:
    name = f"sdk-local-{rewrapped}".lower()
    made = custodian.create_key(name, **ABOUT)
    encryptor = app.encryptor(name)
    plain, sealed, opened = (tmp_path / part for part in ("scan.dcm", "scan.dcm.kcl", "opened.dcm"))
    plain.write_bytes(os.urandom(3_000_000))
    blob = encryptor.encrypt(b"diagnosis", CONTEXT)
    encryptor.encrypt_file(plain, sealed, CONTEXT)
    assert (inspect(blob).key, inspect(blob).version) == (made.id, 1)
    if rewrapped:
        with client_of(live, "operator") as operator:
            operator.move(name, "rotate", reason="rehearsal")
        blob = encryptor.rewrap(blob, CONTEXT)
        assert encryptor.rewrap_file(sealed, CONTEXT).version == inspect(blob).version == 2

    reader = app.encryptor(name, cache=NO_CACHE)
    assert reader.decrypt(blob, CONTEXT) == b"diagnosis"
    reader.decrypt_file(sealed, opened, CONTEXT)
    assert opened.read_bytes() == plain.read_bytes()
    for wrong in ({}, {**CONTEXT, "patient": "p-18"}):
        with pytest.raises(errors.Undecipherable):
            reader.decrypt(blob, wrong)


@pytest.mark.requirement("R29", "R33")
def test_a_revoked_credential_opens_nothing_more(live: Live, custodian: Client) -> None:
    custodian.create_key("sdk-revoked", **ABOUT)
    with client_of(live, "operator") as operator:
        issued = operator.issue_credential(
            "sdk-app", "application", 600, {"operations": ["data-key", "unwrap"], "keys": ["sdk-revoked"], "context": {}}
        )
        assert issued.token
        with client_of(live, issued.token) as app:
            assert app.whoami().principal == "sdk-app"
            encryptor = app.encryptor("sdk-revoked")
            stream = b"".join(encryptor.encrypt_chunks(io.BytesIO(b"x" * 9000), CONTEXT))
            assert encryptor.decrypt(stream, CONTEXT) == b"x" * 9000
            assert issued.id in {credential.id for credential in operator.list_credentials()}
            operator.revoke_credential(issued.id)
            with pytest.raises(errors.Unauthenticated):
                encryptor.decrypt(stream, CONTEXT)


@pytest.mark.requirement("R13", "R23")
def test_the_life_of_a_key(live: Live, custodian: Client) -> None:
    rehearsed = custodian.create_key("sdk-life", tags={"a": "b"}, dry_run=True, **ABOUT)
    assert rehearsed.name == "sdk-life"
    with pytest.raises(errors.Unknown):
        custodian.get_key("sdk-life")
    key = custodian.create_key("sdk-life", tags={"a": "b"}, cryptoperiod={"protect_days": 100, "process_days": 200}, **ABOUT)
    assert (key.owner, key.tags, key.versions[0].state) == ("cardiology", {"a": "b"}, "active")
    with pytest.raises(errors.Conflict):
        custodian.create_key("sdk-life", **ABOUT)
    changed = custodian.update_key("sdk-life", owner="radiology", if_match=key.rev)
    assert changed.owner == "radiology"
    with pytest.raises(errors.StaleRevision):
        custodian.update_key("sdk-life", owner="nobody", if_match=key.rev)
    with client_of(live, "operator") as operator:
        once = [operator.move("sdk-life", "rotate", idempotency_key="sdk-rotate-once").primary for _ in range(2)]
        assert once == [2, 2]
        with pytest.raises(errors.IdempotencyReuse):
            operator.move("sdk-life", "rotate", reason="another body", idempotency_key="sdk-rotate-once")
    assert "sdk-life" in {found.name for found in custodian.list_keys(page=2)}


@pytest.mark.requirement("R23")
def test_importing_a_key(custodian: Client, app: Client) -> None:
    key = custodian.import_key("sdk-imported", os.urandom(32), **ABOUT)

    assert key.versions[0].kcv and key.versions[0].origin == "imported"
    assert app.decrypt(key.id, app.encrypt(key.id, b"x").ciphertext).plaintext == b"x"


@pytest.mark.requirement("R5", "R7", "R40")
def test_the_record(live: Live, custodian: Client) -> None:
    made = custodian.create_key("sdk-record", **ABOUT)
    live.until_placed()
    with client_of(live, "auditor") as auditor:
        seen = [event for event in auditor.events(key=made.id)]
        assert seen and made.event
        receipt = auditor.receipt(made.event)
        assert receipt.index == seen[0].index and made.id.encode() in receipt.leaf
        assert auditor.log_keys().origin.encode() == auditor.checkpoint().split(b"\n")[0]
        size = int(auditor.checkpoint().split(b"\n")[1])
        assert auditor.entries(0, min(size, 255)) and auditor.tile(0, 0, min(size, 255))
        assert isinstance(auditor.consistency(1, size), list)


def test_the_server_itself(live: Live) -> None:
    with client_of(live, "nobody") as client:
        assert client.health() == "ok"
        assert client.status().sealed is False and client.status().module["name"]
        assert client.openapi()["openapi"].startswith("3.1")
        with pytest.raises(errors.Unauthenticated):
            client.whoami()


@pytest.mark.requirement("R16")
def test_sealing_and_unsealing(own_live: Live) -> None:
    with client_of(own_live, "custodian") as custodian:
        custodian.create_key("k", **ABOUT)
        token = own_live.token(["encrypt"], ["k"])
        custodian.seal()
        assert custodian.health() == "sealed"
        with client_of(own_live, token) as app, pytest.raises(errors.Sealed):
            app.encrypt("k", b"x")
        progress = [custodian.unseal(share) for share in own_live.shares[: custodian.status().unseal["threshold"]]]
        assert [step.sealed for step in progress] == [True] * (len(progress) - 1) + [False]
        assert custodian.get_key("k").name == "k"
