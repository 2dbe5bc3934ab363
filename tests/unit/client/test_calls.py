"""Each call of the client: what it asks over the wire, and what becomes of the answer."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap_with_padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyclave_client import Client, errors
from keyclave_client.answers import decode
from keyclave_client.importing import key_check, wrap_for_import
from keyclave_client.record import tile_path
from keyclave_client.use import VERBS
from keyclave_client.views import Credential, KeyView
from tests.unit.client.contract_server import Asked, ContractServer, Said, problem, serve

TOKEN = "kct_topsecret"
RAW = bytes(range(250, 256))
B64 = base64.b64encode(RAW).decode()
CONTEXT = {"patient": "p-17"}
VERSIONED = {"key": "key_a", "version": 3, "event": "evt_1"}


@pytest.fixture
def server() -> Iterator[ContractServer]:
    with serve(lambda asked: Said(500)) as running:
        yield running


@pytest.fixture
def client(server: ContractServer) -> Iterator[Client]:
    with Client(server.url, TOKEN) as made:
        yield made


USES: list[tuple[str, Callable[[Client], Any], dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("encrypt", lambda c: c.encrypt("k/1", RAW, CONTEXT), {"plaintext": B64, "context": CONTEXT},
     {"ciphertext": B64, **VERSIONED}, {"ciphertext": RAW, "version": 3, "event": "evt_1"}),
    ("encrypt", lambda c: c.encrypt("k/1", bytearray(RAW)), {"plaintext": B64}, {"ciphertext": B64, **VERSIONED}, {}),
    ("decrypt", lambda c: c.decrypt("k/1", memoryview(RAW), CONTEXT), {"ciphertext": B64, "context": CONTEXT},
     {"plaintext": B64, **VERSIONED}, {"plaintext": RAW}),
    ("re-encrypt", lambda c: c.re_encrypt("k/1", RAW, CONTEXT, to_key="k2", to_context={}),
     {"ciphertext": B64, "context": CONTEXT, "to_key": "k2", "to_context": {}},
     {"ciphertext": B64, "from_version": 1, **VERSIONED}, {"ciphertext": RAW, "from_version": 1}),
    ("data-key", lambda c: c.data_key("k/1", 32, CONTEXT), {"bytes": 32, "context": CONTEXT, "plaintext": True},
     {"wrapped": B64, "plaintext": B64, **VERSIONED}, {"wrapped": RAW, "plaintext": RAW}),
    ("data-key", lambda c: c.data_key("k/1", plaintext=False), {"bytes": 32, "plaintext": False},
     {"wrapped": B64, **VERSIONED}, {"wrapped": RAW, "plaintext": None}),
    ("data-key-pair", lambda c: c.data_key_pair("k/1", "ec-p256"), {"spec": "ec-p256", "private": True},
     {"public_key": "PEM", "wrapped": B64, "private_key": B64, **VERSIONED}, {"private_key": RAW, "public_key": "PEM"}),
    ("wrap", lambda c: c.wrap("k/1", RAW), {"material": B64}, {"wrapped": B64, **VERSIONED}, {"wrapped": RAW}),
    ("unwrap", lambda c: c.unwrap("k/1", RAW), {"wrapped": B64}, {"material": B64, **VERSIONED}, {"material": RAW}),
    ("sign", lambda c: c.sign("k/1", RAW, algorithm="ecdsa-sha-256"),
     {"message": B64, "digested": False, "algorithm": "ecdsa-sha-256"},
     {"signature": B64, "algorithm": "ecdsa-sha-256", "version": 1}, {"signature": RAW}),
    ("verify", lambda c: c.verify("k/1", RAW, RAW, version=2),
     {"message": B64, "signature": B64, "digested": False, "version": 2}, {"valid": True}, {}),
    ("mac", lambda c: c.mac("k/1", RAW), {"message": B64}, {"mac": B64, "algorithm": "hmac-sha-256", "version": 1}, {"mac": RAW}),
    ("verify-mac", lambda c: c.verify_mac("k/1", RAW, RAW), {"message": B64, "mac": B64}, {"valid": True}, {}),
    ("open", lambda c: c.open("k/1", RAW, version=4), {"ciphertext": B64, "version": 4},
     {"plaintext": B64, **VERSIONED}, {"plaintext": RAW}),
    ("derive-shared-secret", lambda c: c.derive_shared_secret("k/1", "PEM", "pump"), {"peer_public_key": "PEM", "label": "pump"},
     {"shared_secret": B64}, {"shared_secret": RAW}),
    ("encapsulate", lambda c: c.encapsulate("k/1"), {}, {"ciphertext": B64, "shared_secret": B64},
     {"ciphertext": RAW, "shared_secret": RAW}),
    ("decapsulate", lambda c: c.decapsulate("k/1", RAW), {"ciphertext": B64}, {"shared_secret": B64}, {"shared_secret": RAW}),
]  # fmt: skip


@pytest.mark.requirement("R14")
@pytest.mark.parametrize(("verb", "call", "sent", "said", "got"), USES, ids=[f"{n}-{u[0]}" for n, u in enumerate(USES)])
def test_using_a_key(
    server: ContractServer,
    client: Client,
    verb: str,
    call: Callable[[Client], Any],
    sent: dict[str, Any],
    said: dict[str, Any],
    got: dict[str, Any],
) -> None:
    server.script = lambda asked: Said(body=said)
    answer = call(client)
    (asked,) = server.asked

    assert (asked.method, asked.path, asked.body) == ("POST", f"/v1/keys/k%2F1/{verb}", sent)
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert {name: getattr(answer, name) for name in got} == got


@pytest.mark.requirement("P7")
def test_answers_with_secrets_do_not_print_them(server: ContractServer, client: Client) -> None:
    server.script = lambda asked: Said(body={"wrapped": "AAAA", "plaintext": B64, "material": B64, "random": B64, **VERSIONED})
    for answer in (client.data_key("k"), client.decrypt("k", b"x"), client.unwrap("k", b"x")):
        assert repr(RAW)[2:-1] not in repr(answer) and B64 not in repr(answer)
    assert client.random(6) == RAW
    assert "kct_" not in repr(decode(Credential, {"id": "c", "token": "kct_new"}))


@pytest.mark.requirement("R14")
def test_batches_return_answers_and_errors_in_order(server: ContractServer, client: Client) -> None:
    results = [
        {"plaintext": B64, "key": "key_a", "version": 1},
        {"error": {"code": "undecipherable", "detail": "does not open", "hint": "check"}},
    ]
    server.script = lambda asked: Said(body={"results": results, "event": "evt_9"})
    good, bad = client.batch("decrypt", "k", [{"ciphertext": RAW, "context": CONTEXT}, {"ciphertext": b""}])

    assert (server.asked[0].path, server.asked[0].body) == (
        "/v1/keys/k/decrypt/batch",
        {"items": [{"ciphertext": B64, "context": CONTEXT}, {"ciphertext": ""}]},
    )
    assert (good.plaintext, good.event) == (RAW, "evt_9")
    assert isinstance(bad, errors.Undecipherable) and bad.event == "evt_9"
    server.script = lambda asked: Said(body={"results": [{"random": B64}]})
    assert client.batch("random", None, [{"bytes": 6}])[0].random == RAW
    assert server.asked[1].path == "/v1/random/batch"


def test_batches_that_do_not_add_up_are_refused(server: ContractServer, client: Client) -> None:
    server.script = lambda asked: Said(body={"results": []})
    with pytest.raises(errors.KeyclaveError):
        client.batch("encrypt", "k", [{"plaintext": b"x"}])
    with pytest.raises(errors.Malformed):
        client.batch("explode", "k", [])


def test_every_verb_has_a_method_and_every_method_a_verb() -> None:
    assert {name for name in VERBS if not callable(getattr(Client, name, None))} == set()


KEY = {
    "id": "key_a", "name": "records", "spec": "aes-256", "purpose": "encrypt", "owner": "dr", "environment": "prod",
    "classification": "ephi", "location": "software", "tags": {"a": "b"}, "cryptoperiod": {"protect_days": 365}, "rotation": {},
    "created_at": "t", "created_by": "c", "primary": 2, "rev": 7, "from_the_future": 1,
    "versions": [{"version": 2, "state": "active", "kcv": "01020304", "new_field": True}],
}  # fmt: skip


@pytest.mark.requirement("R13", "R23")
def test_creating_and_moving_keys(server: ContractServer, client: Client) -> None:
    server.script = lambda asked: Said(201, KEY)
    made = client.create_key("records", owner="dr", environment="prod", classification="ephi", tags={"a": "b"}, dry_run=True)
    client.move("records", "schedule_destruction", version=1, reason="old", days=30, if_match=7, idempotency_key="mine")
    client.update_key("records", owner="new", if_match=7)
    create, move, update = server.asked

    assert (create.method, create.path) == ("POST", "/v1/keys?dry_run=true")
    assert create.body == {
        "name": "records", "spec": "aes-256", "purpose": "encrypt", "owner": "dr", "environment": "prod",
        "classification": "ephi", "tags": {"a": "b"}, "activate": True,
    }  # fmt: skip
    assert (move.path, move.body) == ("/v1/keys/records/schedule-destruction", {"version": 1, "reason": "old", "days": 30})
    assert (move.headers["idempotency-key"], move.headers["if-match"]) == ("mine", '"7"')
    assert (update.method, update.body) == ("PATCH", {"owner": "new"})
    assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 3
    assert (made.primary, made.rev, made.versions[0].state, made.versions[0].kcv) == (2, 7, "active", "01020304")


def test_lists_follow_the_cursor(server: ContractServer, client: Client) -> None:
    pages = {None: (["a", "b"], "c1"), "c1": (["c"], "c2"), "c2": ([], None)}

    def script(asked: Asked) -> Said:
        cursor = asked.path.split("cursor=")[1].split("&")[0] if "cursor=" in asked.path else None
        names, following = pages[cursor]
        return Said(body={"keys": [{**KEY, "name": name} for name in names], "next": following})

    server.script = script

    assert [key.name for key in client.list_keys(state="active", page=2)] == ["a", "b", "c"]
    assert all("state=active" in asked.path and "limit=2" in asked.path for asked in server.asked)


@pytest.mark.requirement("R23")
def test_import_wraps_what_it_sends(server: ContractServer, client: Client) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    parameters = {"token": "once", "wrapping_key": pem, "algorithm": "RSA-OAEP-SHA256+AES-KWP", "expires_at": "t"}
    server.script = lambda asked: Said(body=parameters if asked.path.endswith("parameters") else KEY)
    material = bytes(range(32))
    client.import_key("legacy", material, owner="dr", environment="prod", classification="ephi", cryptoperiod={"protect_days": 9})
    sent = server.asked[1].body
    wrapped = base64.b64decode(sent.pop("wrapped"))
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    once = private.decrypt(wrapped[:384], oaep)

    assert len(once) == 32 and aes_key_unwrap_with_padding(once, wrapped[384:]) == material
    assert sent == {
        "token": "once", "kcv": "0f31cb1d", "name": "legacy", "spec": "aes-256", "purpose": "encrypt", "owner": "dr",
        "environment": "prod", "classification": "ephi", "cryptoperiod": {"protect_days": 9},
    }  # fmt: skip
    assert base64.b64encode(material).decode() not in json.dumps([asked.body for asked in server.asked])


@pytest.mark.requirement("R23")
def test_import_refuses_a_weak_or_strange_wrapping_key() -> None:
    def pem(key: Any) -> str:
        return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())

    known = "RSA-OAEP-SHA256+AES-KWP"
    weak = pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    for key, algorithm, material in (
        (weak, known, b"x" * 32),
        (pem(ec.generate_private_key(ec.SECP256R1())), known, b"x" * 32),
        ("not a key", known, b"x" * 32),
        (weak, "RSA-PKCS1", b"x" * 32),
        (weak, known, b""),
    ):
        with pytest.raises(errors.Malformed):
            wrap_for_import(key, algorithm, material)
    assert key_check(bytearray(range(32))) == key_check(memoryview(bytes(range(32)))) == "0f31cb1d"


@pytest.mark.requirement("R33")
def test_credentials_and_tenants(server: ContractServer, client: Client) -> None:
    server.script = lambda asked: Said(
        body={"credentials": [{"id": "crd_1", "principal": "app", "role": "application", "token": "kct_t"}], "tenant": "t",
              "id": "crd_1", "token": "kct_new", "next": None}
    )  # fmt: skip
    assert client.issue_credential("app", "application", 3600, {"operations": ["encrypt"]}).token == "kct_new"
    assert [c.id for c in client.list_credentials()] == ["crd_1"]
    assert client.revoke_credential("crd_1").id == "crd_1"
    assert client.create_tenant("clinic").credentials[0].token == "kct_t"

    assert [(a.method, a.path, a.body) for a in server.asked] == [
        ("POST", "/v1/credentials",
         {"principal": "app", "role": "application", "ttl_seconds": 3600, "scope": {"operations": ["encrypt"]}}),
        ("GET", "/v1/credentials", None),
        ("POST", "/v1/credentials/crd_1/revoke", {}),
        ("POST", "/v1/tenants", {"name": "clinic"}),
    ]  # fmt: skip


@pytest.mark.requirement("R5", "R7", "R40")
def test_the_record(server: ContractServer, client: Client) -> None:
    def script(asked: Asked) -> Said:
        if asked.path.startswith("/v1/log/keys"):
            return Said(body={"origin": "o", "vkeys": ["a", "b"]})
        if asked.path.startswith("/v1/log/"):
            return Said(body=asked.path.encode())
        if "receipts" in asked.path:
            return Said(body={"event": "evt_1", "index": 5, "leaf": B64, "proof": "text\n"})
        if "consistency" in asked.path:
            return Said(body={"from": 1, "to": 9, "proof": [B64]})
        first = "from=3" in asked.path
        return Said(body={"events": [{"index": 3 if first else 8, "actor": "x"}], "next": 8 if first else None})

    server.script = script

    assert client.checkpoint() == b"/v1/log/checkpoint"
    assert client.tile(1, 1234067) == b"/v1/log/tile/1/x001/x234/067"
    assert client.tile(0, 0, 7) == b"/v1/log/tile/0/000.p/7"
    assert client.entries(256) == b"/v1/log/tile/entries/256"
    assert client.log_keys().vkeys == ("a", "b")
    assert (client.receipt("evt_1").leaf, client.receipt("evt_1").proof) == (RAW, "text\n")
    with pytest.raises(errors.KeyclaveError, match="the receipt of evt_1, and was asked for that of evt_2"):
        client.receipt("evt_2")  # a receipt of another event is good, and proves nothing of this one
    assert client.consistency(1, 9) == [RAW]
    events = list(client.events(3, key="k", operation="encrypt"))
    assert [(event.index, event.leaf) for event in events] == [(3, {"actor": "x"}), (8, {"actor": "x"})]
    assert "key=k" in server.asked[-1].path and "operation=encrypt" in server.asked[-1].path


@pytest.mark.parametrize(
    ("index", "path"), [(0, "000"), (67, "067"), (999, "999"), (1000, "x001/000"), (1234067, "x001/x234/067")]
)
def test_tile_paths(index: int, path: str) -> None:
    assert tile_path(index) == path


def test_the_server_itself(server: ContractServer, client: Client) -> None:
    says: dict[str, Any] = {
        "/v1/whoami": {"principal": "app", "role": "application", "tenant": "t", "credential": "c", "expires_at": "x"},
        "/v1/status": {"version": "1", "sealed": True, "development": False, "unseal": {"threshold": 3, "received": 1}},
        "/v1/unseal": {"sealed": True, "threshold": 3, "received": 2},
        "/v1/seal": {"sealed": True},
        "/v1/openapi.json": {"openapi": "3.1.0"},
        "/v1/keys/k/public-key?version=2": {"public_key": "PEM", "version": 2, "spec": "ec-p256"},
        "/v1/keys/k": KEY,
    }
    server.script = lambda asked: Said(body=says[asked.path])

    assert client.whoami().principal == "app"
    assert client.status().unseal["threshold"] == 3
    assert client.unseal("share words").received == 2
    client.seal()
    assert client.openapi() == {"openapi": "3.1.0"}
    assert client.public_key("k", 2).public_key == "PEM"
    assert client.get_key("k") == decode(KeyView, KEY)
    server.script = lambda asked: Said(body={"sealed": False})
    with pytest.raises(errors.KeyclaveError):
        client.seal()


@pytest.mark.parametrize(("status", "said"), [(200, "ok"), (503, "sealed"), (503, "broken")])
def test_health_is_an_answer_even_when_it_is_bad(server: ContractServer, client: Client, status: int, said: str) -> None:
    server.script = lambda asked: Said(status, {"status": said})

    assert client.health() == said
    assert len(server.asked) == 1


@pytest.mark.parametrize("code", sorted(errors.BY_CODE))
def test_every_code_is_its_class(server: ContractServer, client: Client, code: str) -> None:
    server.script = lambda asked: problem(403, code, "the detail", "the hint", event="evt_7")
    with pytest.raises(errors.BY_CODE[code]) as caught:
        client.get_key("k")

    error = caught.value
    assert (error.code, error.detail, error.hint, error.status, error.event) == (code, "the detail", "the hint", 403, "evt_7")
    assert str(error) == "the detail: the hint"


def test_a_code_of_a_newer_server_is_the_base_class(server: ContractServer, client: Client) -> None:
    server.script = lambda asked: problem(418, "teapot")
    with pytest.raises(errors.KeyclaveError) as caught:
        client.get_key("k")

    assert type(caught.value) is errors.KeyclaveError and caught.value.code == "teapot"


@pytest.mark.requirement("R4", "R11")
def test_an_encryptor_of_a_client(server: ContractServer, client: Client) -> None:
    key = base64.b64encode(bytes(range(32))).decode()

    def script(asked: Asked) -> Said:
        says = {
            "data-key": {"wrapped": B64, "plaintext": key, **VERSIONED},
            "unwrap": {"material": key, **VERSIONED},
            "re-encrypt": {"ciphertext": "AQID", "from_version": 3, **VERSIONED},
        }
        return Said(body=says[asked.path.rsplit("/", 1)[1]])

    server.script = script
    encryptor = client.encryptor("records")
    blobs = [encryptor.encrypt(b"diagnosis", CONTEXT) for _ in range(3)]
    assert [encryptor.decrypt(blob, CONTEXT) for blob in blobs] == [b"diagnosis"] * 3
    encryptor.rewrap(blobs[0], CONTEXT, to_key="archive")

    assert [(a.path, a.body) for a in server.asked] == [
        ("/v1/keys/records/data-key", {"bytes": 32, "context": CONTEXT, "plaintext": True}),
        ("/v1/keys/records/unwrap", {"wrapped": B64, "context": CONTEXT}),
        ("/v1/keys/records/re-encrypt", {"ciphertext": B64, "context": CONTEXT, "to_key": "archive"}),
    ]
    assert "diagnosis" not in repr(server.asked)
    assert TOKEN not in repr(encryptor)
