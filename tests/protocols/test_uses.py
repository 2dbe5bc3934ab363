"""Every in-place operation over REST, one by one and in batches, with each kind of key."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_public_key,
)

from tests.live import Live

ALL = [
    "encrypt", "decrypt", "re-encrypt", "data-key", "data-key-pair", "wrap", "unwrap", "sign", "verify", "mac", "verify-mac",
    "derive-shared-secret", "encapsulate", "decapsulate", "random", "public-key", "key-read",
]  # fmt: skip


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def app(live: Live) -> str:
    live.create_key("u-aes")
    live.create_key("u-aes-2")
    return live.token(ALL, ["u-*"])


def call(live: Live, app: str, key: str, verb: str, **body: Any) -> Any:
    return live.post(f"/v1/keys/{key}/{verb}", app, body)


@pytest.mark.requirement("R14", "R11")
def test_data_keys(live: Live, app: str) -> None:
    made = call(live, app, "u-aes", "data-key", bytes=32, context={"a": "b"}).json()
    assert len(base64.b64decode(made["plaintext"])) == 32
    again = call(live, app, "u-aes", "unwrap", wrapped=made["wrapped"], context={"a": "b"}).json()
    assert again["material"] == made["plaintext"]
    assert call(live, app, "u-aes", "unwrap", wrapped=made["wrapped"]).json()["code"] == "undecipherable"
    assert call(live, app, "u-aes", "decrypt", ciphertext=made["wrapped"], context={"a": "b"}).json()["code"] == "undecipherable"
    assert "plaintext" not in call(live, app, "u-aes", "data-key", plaintext=False).json()
    moved = call(live, app, "u-aes", "re-encrypt", ciphertext=made["wrapped"], context={"a": "b"}, to_key="u-aes-2").json()
    final = call(live, app, "u-aes-2", "unwrap", wrapped=moved["ciphertext"], context={"a": "b"}).json()
    assert final["material"] == made["plaintext"]


@pytest.mark.requirement("R14")
@pytest.mark.parametrize("spec", ["ecdsa-p256", "ed25519", "ml-kem-768"])
def test_data_key_pairs(live: Live, app: str, spec: str) -> None:
    made = call(live, app, "u-aes", "data-key-pair", spec=spec).json()
    private: Any = load_der_private_key(base64.b64decode(made["private_key"]), None)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert public == made["public_key"]
    assert "private_key" not in call(live, app, "u-aes", "data-key-pair", spec=spec, private=False).json()
    assert call(live, app, "u-aes", "data-key-pair", spec="aes-256").json()["code"] == "malformed"


@pytest.mark.requirement("R14")
def test_wrap_and_unwrap(live: Live, app: str) -> None:
    wrapped = call(live, app, "u-aes", "wrap", material=b64(b"my own key"), context={}).json()["wrapped"]
    assert call(live, app, "u-aes", "unwrap", wrapped=wrapped).json()["material"] == b64(b"my own key")
    assert call(live, app, "u-aes", "wrap", material="").json()["code"] == "malformed"


@pytest.mark.requirement("R12", "R14")
@pytest.mark.parametrize("spec", ["ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-3072", "ml-dsa-65", "ml-dsa-87"])
def test_signatures(live: Live, app: str, spec: str) -> None:
    key = f"u-sign-{spec}"
    live.create_key(key, spec=spec, purpose="sign")
    made = call(live, app, key, "sign", message=b64(b"order")).json()
    valid = call(live, app, key, "verify", message=b64(b"order"), signature=made["signature"])
    assert valid.json()["valid"] is True
    other = call(live, app, key, "verify", message=b64(b"0rder"), signature=made["signature"])
    assert (other.status_code, other.json()["code"]) == (400, "invalid_signature")
    pem = live.get(f"/v1/keys/{key}/public-key", app).json()["public_key"]
    public: Any = load_pem_public_key(pem.encode())
    signature = base64.b64decode(made["signature"])
    if spec.startswith("ecdsa"):
        digest = hashes.SHA256() if spec.endswith("256") else hashes.SHA384()
        public.verify(signature, b"order", ec.ECDSA(digest))
    elif spec.startswith("rsa"):
        public.verify(signature, b"order", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    else:
        public.verify(signature, b"order")
    live.post(f"/v1/keys/{key}/rotate", "operator")
    assert call(live, app, key, "verify", message=b64(b"order"), signature=made["signature"], version=1).json()["valid"] is True
    assert call(live, app, key, "encrypt", plaintext=b64(b"x")).json()["code"] == "wrong_state"


@pytest.mark.requirement("R14")
def test_a_digest_is_signed_only_at_its_length(live: Live, app: str) -> None:
    live.create_key("u-digest", spec="ecdsa-p256", purpose="sign")
    digest = hashlib.sha256(b"large file").digest()
    made = call(live, app, "u-digest", "sign", message=b64(digest), digested=True).json()
    assert call(live, app, "u-digest", "verify", message=b64(b"large file"), signature=made["signature"]).json()["valid"] is True
    assert call(live, app, "u-digest", "sign", message=b64(b"short"), digested=True).json()["code"] == "malformed"
    assert call(live, app, "u-digest", "sign", message=b64(b"m"), algorithm="rsa-pss-sha-256").json()["code"] == "malformed"


@pytest.mark.requirement("R14")
@pytest.mark.parametrize("bits", ["256", "384", "512"])
def test_macs(live: Live, app: str, bits: str) -> None:
    key = f"u-mac-{bits}"
    live.create_key(key, spec=f"hmac-sha-{bits}", purpose="mac")
    made = call(live, app, key, "mac", message=b64(b"claim")).json()["mac"]
    assert len(base64.b64decode(made)) == int(bits) // 8
    assert call(live, app, key, "verify-mac", message=b64(b"claim"), mac=made).json()["valid"] is True
    assert call(live, app, key, "verify-mac", message=b64(b"c1aim"), mac=made).json()["code"] == "invalid_signature"


@pytest.mark.requirement("R12", "R14")
def test_rsa_decryption_of_what_others_encrypted(live: Live, app: str) -> None:
    live.create_key("u-rsa", spec="rsa-3072", purpose="decrypt")
    public: Any = load_pem_public_key(live.get("/v1/keys/u-rsa/public-key", app).json()["public_key"].encode())
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    made = b64(public.encrypt(b"session key", oaep))
    assert base64.b64decode(call(live, app, "u-rsa", "open", ciphertext=made).json()["plaintext"]) == b"session key"
    assert call(live, app, "u-rsa", "open", ciphertext=b64(b"x" * 384)).json()["code"] == "undecipherable"


@pytest.mark.requirement("R12", "R14")
@pytest.mark.parametrize(("spec", "curve"), [("ecdh-p256", ec.SECP256R1), ("ecdh-p384", ec.SECP384R1)])
def test_key_agreement(live: Live, app: str, spec: str, curve: Any) -> None:
    key = f"u-{spec}"
    live.create_key(key, spec=spec, purpose="agree")
    peer = ec.generate_private_key(curve())
    pem = peer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    answer = call(live, app, key, "derive-shared-secret", peer_public_key=pem, label="session 1").json()
    ours: Any = load_pem_public_key(live.get(f"/v1/keys/{key}/public-key", app).json()["public_key"].encode())
    raw = peer.exchange(ec.ECDH(), ours)
    both = sorted(k.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for k in (peer.public_key(), ours))
    fields = [b"keyclave/shared-secret/1", *both, b"session 1"]
    info = b"".join(len(f).to_bytes(4, "big") + f for f in fields)
    assert base64.b64decode(answer["shared_secret"]) == hmac.digest(raw, b"\x00\x00\x00\x01" + info, "sha512")[:32]
    assert call(live, app, key, "derive-shared-secret", peer_public_key="x", label="l").json()["code"] == "malformed"


@pytest.mark.requirement("R12", "R14")
@pytest.mark.parametrize("spec", ["ml-kem-768", "ml-kem-1024"])
def test_encapsulation(live: Live, app: str, spec: str) -> None:
    key = f"u-{spec}"
    live.create_key(key, spec=spec, purpose="encapsulate")
    public: Any = load_pem_public_key(live.get(f"/v1/keys/{key}/public-key", app).json()["public_key"].encode())
    secret, ciphertext = public.encapsulate()
    answer = call(live, app, key, "decapsulate", ciphertext=b64(ciphertext)).json()
    assert base64.b64decode(answer["shared_secret"]) == secret
    made = call(live, app, key, "encapsulate").json()
    again = call(live, app, key, "decapsulate", ciphertext=made["ciphertext"]).json()
    assert again["shared_secret"] == made["shared_secret"]
    assert call(live, app, key, "decapsulate", ciphertext=b64(b"short")).json()["code"] == "undecipherable"


@pytest.mark.requirement("R12")
def test_random(live: Live, app: str) -> None:
    one, two = (live.post("/v1/random", app, {"bytes": 48}).json()["random"] for _ in range(2))
    assert len(base64.b64decode(one)) == 48
    assert one != two
    assert live.post("/v1/random", app, {"bytes": 0}).json()["code"] == "malformed"
    assert len(live.post("/v1/random/batch", app, {"items": [{"bytes": 8}] * 5}).json()["results"]) == 5


@pytest.mark.requirement("R14")
def test_a_batch_answers_item_by_item(live: Live, app: str) -> None:
    items: list[Any] = [{"plaintext": b64(b"%d" % i), "context": {"patient": f"p{i}"}} for i in range(1000)]
    items[7] = {"plaintext": "not base64!"}
    answer = call(live, app, "u-aes", "encrypt/batch", items=items).json()
    results = answer["results"]
    assert len(results) == 1000
    assert results[7]["error"]["code"] == "malformed"
    back = [
        {"ciphertext": r["ciphertext"], "context": i["context"]} for r, i in zip(results, items, strict=True) if "error" not in r
    ]
    opened = call(live, app, "u-aes", "decrypt/batch", items=back).json()["results"]
    assert [base64.b64decode(r["plaintext"]) for r in opened] == [b"%d" % i for i in range(1000) if i != 7]
    assert len({r["ciphertext"] for r in results if "error" not in r}) == 999
    assert call(live, app, "u-aes", "encrypt/batch", items=[{"plaintext": ""}] * 1001).json()["code"] == "malformed"
    assert call(live, app, "u-aes", "encrypt/batch", items=[]).json()["code"] == "malformed"
    swapped = [{**back[0], "context": back[1]["context"]}, {**back[1], "ciphertext": back[0]["ciphertext"]}]
    assert [r["error"]["code"] for r in call(live, app, "u-aes", "decrypt/batch", items=swapped).json()["results"]] == [
        "undecipherable"
    ] * 2


@pytest.mark.requirement("R14")
@pytest.mark.parametrize("spoilt", [False, True])
def test_an_item_is_what_it_is_whether_or_not_another_fails(live: Live, app: str, spoilt: bool) -> None:
    contexts: list[dict[str, str]] = [{}, {"patient": "p1"}, {"patient": "p2", "purpose": "care"}, {}, {"patient": "p1"}]
    items: list[Any] = [{"plaintext": b64(b"x" * i), "context": c} for i, c in enumerate(contexts)]
    if spoilt:
        items.append({"plaintext": "eB=="})  # spare bits that are not zero
    results = call(live, app, "u-aes", "encrypt/batch", items=items).json()["results"]
    assert [r.get("error", {}).get("code") for r in results] == [None] * 5 + ["malformed"] * spoilt
    envelopes = [base64.b64decode(r["ciphertext"]) for r in results[:5]]
    assert [e[73:85] for e in envelopes] == [n.to_bytes(12, "big") for n in range(1, 6)]
    assert len({e[:73] for e in envelopes}) == 1  # key, version, message id, commitment: the parts of one message
    for i, context in enumerate(contexts):
        for other in ({}, {"patient": "p1"}, {"patient": "p2", "purpose": "care"}):
            opened = call(live, app, "u-aes", "decrypt", ciphertext=results[i]["ciphertext"], context=other).json()
            assert opened.get("plaintext") == (b64(b"x" * i) if other == context else None)


@pytest.mark.requirement("R14", "R12")
def test_import_of_a_key_made_elsewhere(live: Live) -> None:
    material = bytes(range(32))
    parameters = live.post("/v1/import/parameters", "custodian").json()
    public: Any = load_pem_public_key(parameters["wrapping_key"].encode())
    ephemeral = AESGCM.generate_key(256)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    wrapped = public.encrypt(ephemeral, oaep) + keywrap.aes_key_wrap_with_padding(ephemeral, material)
    kcv = hmac.digest(material, b"keyclave/key-check/1", "sha256")[:4].hex()
    body = {"name": "imported", "owner": "o", "token": parameters["token"], "wrapped": b64(wrapped), "kcv": kcv}
    made = live.post("/v1/keys/import", "custodian", body)
    assert made.status_code == 201, made.text
    assert (made.json()["versions"][0]["origin"], made.json()["versions"][0]["kcv"]) == ("imported", kcv)
    again = live.post("/v1/keys/import", "custodian", {**body, "name": "imported-2"})
    assert again.json()["code"] == "malformed"
    app = live.token(["encrypt"], ["imported"])
    blob = base64.b64decode(live.post("/v1/keys/imported/encrypt", app, {"plaintext": b64(b"x")}).json()["ciphertext"])
    fields = [b"keyclave/message/1", blob[3:5], blob[5:21], blob[21:25].rjust(8, b"\0"), blob[25:41]]
    info = b"".join(len(f).to_bytes(4, "big") + f for f in fields)
    derived = hmac.digest(material, b"\x00\x00\x00\x01" + info, "sha512")
    aad = b"".join(len(f).to_bytes(4, "big") + f for f in (b"keyclave/aad/1", blob[:85], b""))
    assert AESGCM(derived[:32]).decrypt(blob[73:85], blob[85:], aad) == b"x"


@pytest.mark.requirement("R12")
@pytest.mark.parametrize(("what", "code"), [("kcv", "malformed"), ("material", "malformed"), ("wrapping", "undecipherable")])
def test_a_wrong_import_is_refused(live: Live, what: str, code: str) -> None:
    parameters = live.post("/v1/import/parameters", "custodian").json()
    public: Any = load_pem_public_key(parameters["wrapping_key"].encode())
    ephemeral = AESGCM.generate_key(256)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    material = bytes(16) if what == "material" else bytes(32)
    wrapped = bytearray(public.encrypt(ephemeral, oaep) + keywrap.aes_key_wrap_with_padding(ephemeral, material))
    if what == "wrapping":
        wrapped[-1] ^= 1
    body = {"name": f"bad-{what}", "owner": "o", "token": parameters["token"], "wrapped": b64(bytes(wrapped))}
    if what == "kcv":
        body["kcv"] = "00000000"
    assert live.post("/v1/keys/import", "custodian", body).json()["code"] == code
