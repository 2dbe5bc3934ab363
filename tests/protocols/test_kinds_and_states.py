"""A key serves the purpose it was made for, in the states that permit it, and nothing else; one item or many."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

from keyclave.policy.duties import SCOPED
from tests.live import Live
from tests.protocols.answered import code
from tests.protocols.every import b64

KINDS = {
    "aes": ("aes-256", "encrypt"), "sign": ("ecdsa-p256", "sign"), "mac": ("hmac-sha-512", "mac"), "agree": ("ecdh-p256", "agree"),
    "kem": ("ml-kem-768", "encapsulate"), "rsa": ("rsa-3072", "decrypt"),
}  # fmt: skip
VERBS: dict[str, tuple[str, dict[str, Any]]] = {
    "encrypt": ("aes", {"plaintext": ""}),
    "decrypt": ("aes", {"ciphertext": ""}),
    "re-encrypt": ("aes", {"ciphertext": ""}),
    "data-key": ("aes", {}),
    "data-key-pair": ("aes", {"spec": "ed25519"}),
    "wrap": ("aes", {"material": "eA=="}),
    "unwrap": ("aes", {"wrapped": ""}),
    "sign": ("sign", {"message": ""}),
    "verify": ("sign", {"message": "", "signature": ""}),
    "mac": ("mac", {"message": ""}),
    "verify-mac": ("mac", {"message": "", "mac": ""}),
    "open": ("rsa", {"ciphertext": b64(bytes(384))}),
    "derive-shared-secret": ("agree", {"peer_public_key": "", "label": "l"}),
    "encapsulate": ("kem", {}),
    "decapsulate": ("kem", {"ciphertext": b64(bytes(1088))}),
}


@pytest.fixture(scope="module")
def kinds(live: Live) -> tuple[str, dict[str, Any]]:
    """Return a token for a key of each purpose, and what each can be asked to open."""
    keys = {kind: live.create_key(f"kind-{kind}", spec=spec, purpose=purpose) for kind, (spec, purpose) in KINDS.items()}
    token = live.token(sorted(SCOPED), ["kind-*"])
    pem = live.get("/v1/keys/kind-agree/public-key", token).json()["public_key"]
    raw_id = base64.b32decode(keys["aes"]["id"].removeprefix("key_").upper() + "======")
    envelopes = {
        k: b64(b"KC\x01\x01" + bytes([kind]) + raw_id + bytes(3) + b"\x01" + bytes(80)) for k, kind in (("m", 1), ("w", 2))
    }
    return token, {"peer_public_key": pem, "message": envelopes["m"], "wrapped": envelopes["w"]}


@pytest.mark.requirement("R12")
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_key_serves_its_purpose_and_no_other(live: Live, kinds: tuple[str, dict[str, Any]], kind: str, verb: str) -> None:
    token, known = kinds
    fitting, body = VERBS[verb]
    if verb == "derive-shared-secret":
        body = {**body, "peer_public_key": known["peer_public_key"]}
    if verb in ("decrypt", "re-encrypt", "unwrap"):  # an envelope that says it is of this key: its purpose is looked at first
        field = "wrapped" if verb == "unwrap" else "ciphertext"
        body = {field: known["wrapped" if verb == "unwrap" else "message"]}
    answer = live.post(f"/v1/keys/kind-{kind}/{verb}", token, body)
    if kind == fitting:
        assert code(answer) in ("ok", "undecipherable", "invalid_signature")
    else:
        allowed = {"wrong_state"} | ({"undecipherable"} if verb in ("decrypt", "re-encrypt", "unwrap") else set())
        assert code(answer) in allowed, answer.text
        if code(answer) == "wrong_state":
            assert answer.status_code == 409
            assert KINDS[kind][1] in answer.json()["detail"]


PROTECT = ["aes/encrypt", "aes/data-key", "aes/data-key-pair", "aes/wrap", "mac/mac", "sign/sign"]
PROCESS = ["aes/decrypt", "aes/unwrap", "mac/verify-mac", "sign/verify"]
STATES: dict[str, tuple[list[tuple[str, str]], bool, bool]] = {  # moves to get there; may protect; may process
    "active": ([], True, True),
    "suspended": ([("suspend", "operator")], False, False),
    "deactivated": ([("deactivate", "operator")], False, True),
    "archived": ([("deactivate", "operator"), ("archive", "custodian")], False, False),
    "compromised": ([("compromise", "operator")], False, False),
    "scheduled": ([("deactivate", "operator"), ("schedule-destruction", "custodian")], False, False),
}


@pytest.mark.requirement("R23", "R12")
@pytest.mark.parametrize("state", STATES)
def test_a_state_lets_through_what_it_permits_and_nothing_else(live: Live, state: str) -> None:
    moves, may_protect, may_process = STATES[state]
    token = live.token(sorted(SCOPED), [f"st-{state}-*"])
    keys = {kind: f"st-{state}-{kind}" for kind in ("aes", "mac", "sign")}
    for kind, key in keys.items():
        live.create_key(key, spec=KINDS[kind][0], purpose=KINDS[kind][1])

    def use(which: str, body: dict[str, Any]) -> httpx.Response:
        kind, verb = which.split("/")
        return live.post(f"/v1/keys/{keys[kind]}/{verb}", token, body)

    bodies: dict[str, dict[str, Any]] = {which: VERBS[which.split("/")[1]][1] for which in PROTECT}
    made = {which: use(which, body).json() for which, body in bodies.items()}
    bodies |= {
        "aes/decrypt": {"ciphertext": made["aes/encrypt"]["ciphertext"]},
        "aes/unwrap": {"wrapped": made["aes/wrap"]["wrapped"]},
        "mac/verify-mac": {"message": "", "mac": made["mac/mac"]["mac"], "version": 1},
        "sign/verify": {"message": "", "signature": made["sign/sign"]["signature"], "version": 1},
    }
    for key in keys.values():
        for verb, role in moves:
            body = {"reason": "test", **({"version": 1, "days": 30} if verb == "schedule-destruction" else {})}
            assert live.post(f"/v1/keys/{key}/{verb}", role, body).status_code == 200
    for which, permitted in [*((w, may_protect) for w in PROTECT), *((w, may_process) for w in PROCESS)]:
        answer = use(which, bodies[which])
        assert code(answer) == ("ok" if permitted else "wrong_state"), which
        kind, verb = which.split("/")
        batch = live.post(f"/v1/keys/{keys[kind]}/{verb}/batch", token, {"items": [bodies[which]]}).json()
        assert batch["results"][0].get("error", {"code": "ok"})["code"] == ("ok" if permitted else "wrong_state")
    moved = use("aes/re-encrypt", {"ciphertext": made["aes/encrypt"]["ciphertext"]})
    assert code(moved) == ("ok" if may_process and may_protect else "wrong_state")
    assert code(live.get(f"/v1/keys/{keys['aes']}", token)) == "ok"  # what is known of a key outlives its use
