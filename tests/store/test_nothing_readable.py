"""What is stored after use: no key material, token, plaintext or context value, in any usual spelling.

Looked for in the bytes of every file of the home, the database and its write-ahead log among them, and in those of every table where
that is PostgreSQL. That the search finds what is there is shown by what may be there: names,
sealed material and digests.
"""

from __future__ import annotations

import base64
import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.inside import Inside, new_inside

PATIENT = "Maria-Esposito-4711-Zuerich"
PLAINTEXT = b"Diagnosis: acute myocardial infarction, anterior wall, 2024"
SPECS = {
    "aes-256": "encrypt",
    "hmac-sha-256": "mac",
    "ecdsa-p256": "sign",
    "ed25519": "sign",
    "ml-kem-768": "encapsulate",
    "ml-dsa-65": "sign",
}


@pytest.fixture(scope="module", params=("sqlite", "postgresql"))
def inside(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with new_inside(tmp_path_factory.mktemp("inside"), postgresql=request.param == "postgresql") as made:
        yield made


def files(inside: Inside) -> dict[str, bytes]:
    """Return the database, its write-ahead log and its index, and whatever else lies in the home."""
    found = {str(path.relative_to(inside.home)): path.read_bytes() for path in inside.home.rglob("*") if path.is_file()}
    return found if inside.database is None else {**found, "tables": inside.stored()}


def spellings(secret: bytes) -> list[bytes]:
    """Return the secret as itself, in hexadecimal, and in base64 at each of the three alignments it may have in a longer text."""
    found = [secret, secret.hex().encode(), secret.hex().upper().encode()]
    for shift in range(3):
        text = base64.b64encode(bytes(shift) + secret)
        text = text[4 if shift else 0 : -4]  # the characters that other bytes take part in are left out
        found += [text, text.replace(b"+", b"-").replace(b"/", b"_")]
    return found


def where(secret: bytes, inside: Inside) -> list[str]:
    assert len(secret) >= 12  # shorter ones are found by chance
    return [name for name, content in files(inside).items() if any(spelling in content for spelling in spellings(secret))]


def used(inside: Inside) -> dict[str, bytes]:
    """Use everything once and return every secret that went through the server, by what it is."""
    secrets: dict[str, bytes] = {"plaintext": PLAINTEXT, "context value": PATIENT.encode()}
    app = inside.application(
        ["encrypt", "decrypt", "re-encrypt", "data-key", "data-key-pair", "wrap", "unwrap", "mac", "sign"], ["*"]
    )
    context = {"patient": PATIENT}
    for spec, purpose in SPECS.items():
        inside.get(
            "key-create",
            "custodian",
            "",
            {"name": spec, "spec": spec, "purpose": purpose, "owner": "o"},
            idempotency=f"make {spec}",
        )
    plaintext = base64.b64encode(PLAINTEXT).decode()
    sealed = inside.get("encrypt", app, "aes-256", {"plaintext": plaintext, "context": context})
    inside.get("encrypt", app, "aes-256", {"items": [{"plaintext": plaintext, "context": context}] * 3}, batch=True)
    data_key = inside.get("data-key", app, "aes-256", {"context": context})
    pair = inside.get("data-key-pair", app, "aes-256", {"spec": "ecdsa-p256", "context": context})
    secrets["data key"] = base64.b64decode(data_key["plaintext"])
    secrets["data key pair"] = base64.b64decode(pair["private_key"])[-60:]
    inside.get("mac", app, "hmac-sha-256", {"message": plaintext})
    inside.get("sign", app, "ecdsa-p256", {"message": plaintext})
    inside.get("rotate", "operator", "aes-256", {}, idempotency="turn")
    given = {"ciphertext": sealed["ciphertext"], "context": context}
    inside.get("decrypt", app, "aes-256", given)
    inside.get("re-encrypt", app, "aes-256", {**given, "to_context": {"patient": PATIENT + "-2"}})
    assert inside.ask("decrypt", app, "aes-256", {**given, "context": {"patient": PATIENT + "-wrong"}}).error is not None
    body = {"principal": "kept", "role": "application", "ttl_seconds": 60, "scope": {"operations": ["encrypt"], "keys": ["*"]}}
    issued = inside.get("credential-issue", "operator", "", body, idempotency="kept answer")
    assert inside.get("credential-issue", "operator", "", body, idempotency="kept answer")["token"] == issued["token"]
    secrets |= {f"token {n}": token.encode() for n, token in enumerate([*inside.tokens.values(), issued["token"]])}
    secrets |= {f"share {n}": share.encode() for n, share in enumerate(inside.shares)}
    return secrets | _held(inside)


def _held(inside: Inside) -> dict[str, bytes]:
    """Return the key material that the process holds in locked memory."""
    found: dict[str, bytes] = {}
    keyring = inside.desk.keyring
    for (_, name), loaded in keyring._keys.items():
        for number, handle in loaded.handles.items():
            found[f"{name} version {number}"] = bytes(handle.slot.view())
    for (_, duty), slot in keyring._tenants.items():
        found[f"tenant key {duty}"] = bytes(slot.view())
    found["root"] = bytes(inside.desk.vault.root._held().view())  # type: ignore[attr-defined]
    signer = inside.desk.log._signer
    seed = bytes(signer._seed.view())  # type: ignore[union-attr]
    found["log's Ed25519 seed"], found["log's ML-DSA seed"] = seed[:32], seed[32:]
    return found


@pytest.mark.requirement("R1", "R4", "R11", "P7", "P8")
def test_no_secret_and_no_context_value_lies_in_the_home_after_use(inside: Inside) -> None:
    secrets = used(inside)
    assert {"aes-256 version 1", "aes-256 version 2", "tenant key context", "root", "data key"} <= set(secrets)
    for what, secret in secrets.items():
        assert where(secret, inside) == [], what
    inside.desk.log.tick()
    if inside.database is not None:
        return
    with sqlite3.connect(inside.home / "keyclave.db") as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for what, secret in secrets.items():
        assert where(secret, inside) == [], f"{what}, once the write-ahead log is copied back"


def test_the_search_finds_what_may_be_there(inside: Inside) -> None:
    inside.get("key-create", "custodian", "", {"name": "a-name-to-be-found", "owner": "o"})
    assert ("keyclave.db-wal" if inside.database is None else "tables") in where(b"a-name-to-be-found", inside)
    query = "SELECT sealed FROM key_versions LIMIT 1"
    assert where(bytes(inside.store.read(lambda conn: conn.exec_driver_sql(query).scalar_one())), inside)
    token = next(iter(inside.tokens.values())).encode()
    assert ("keyclave.db" if inside.database is None else "tables") in where(hashlib.sha256(token).digest(), inside)
    (inside.home / "leak.txt").write_text("xx" + base64.b64encode(b"?" + PLAINTEXT + b"!").decode())
    assert where(PLAINTEXT, inside) == ["leak.txt"]
    (inside.home / "leak.txt").unlink()


@pytest.mark.requirement("R23")
def test_the_sealed_material_of_a_destroyed_version_is_overwritten(tmp_path: Path) -> None:
    """Not only unlinked: whoever later gets the tenant key and an old page must not find it.

    Its copies in the write-ahead log are gone after the next copying back.
    """
    with new_inside(tmp_path) as inside:
        key = inside.get("key-create", "custodian", "", {"name": "short-lived", "owner": "o"})
        (sealed,) = inside.store.line.raw.execute("SELECT sealed FROM key_versions").fetchone()
        inside.get("deactivate", "operator", "short-lived", {"reason": "over"})
        before = inside.get("schedule-destruction", "custodian", "short-lived", {"version": 1, "days": 7, "reason": "over"})
        assert where(sealed, inside)
        inside.desk.clock._ahead += 8 * 86_400 * 1_000_000  # type: ignore[attr-defined] # a week and a day later
        body = {"principal": "second", "role": "custodian", "ttl_seconds": 86_400}
        approval = inside.approved("credential-issue", "custodian", "", body)
        other = inside.get("credential-issue", "custodian", "", body, approval=approval)
        inside.tokens["second"] = other["token"]
        approval = inside.approved("destroy", "second", "short-lived", {"version": 1, "reason": "over"})
        after = inside.get("destroy", "second", "short-lived", {"version": 1, "reason": "over"}, approval=approval)
        assert (before["versions"][0]["kcv"], after["versions"][0]["state"]) == (after["versions"][0]["kcv"], "destroyed")
        with sqlite3.connect(inside.home / "keyclave.db") as conn:
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert where(sealed, inside) == []
        assert where(key["id"].encode(), inside) == ["keyclave.db"]
