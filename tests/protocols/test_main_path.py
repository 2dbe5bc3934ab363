"""The main job over REST, against a live server."""

from __future__ import annotations

import base64

import pytest

from tests.live import Live


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.requirement("R11", "R14", "R24")
def test_a_key_protects_is_rotated_and_still_opens_what_it_protected(live: Live) -> None:
    live.create_key("main-path")
    app = live.token(["encrypt", "decrypt", "re-encrypt"], ["main-path"])
    context = {"patient": "p-1", "purpose": "treatment"}
    made = live.post("/v1/keys/main-path/encrypt", app, {"plaintext": b64(b"record"), "context": context}).json()
    assert live.post("/v1/keys/main-path/rotate", "operator").json()["primary"] == 2
    opened = live.post("/v1/keys/main-path/decrypt", app, {"ciphertext": made["ciphertext"], "context": context}).json()
    assert (base64.b64decode(opened["plaintext"]), opened["version"]) == (b"record", 1)
    moved = live.post(
        "/v1/keys/main-path/re-encrypt",
        app,
        {"ciphertext": made["ciphertext"], "context": context, "to_context": {"patient": "p-2"}},
    ).json()
    assert (moved["version"], moved["from_version"]) == (2, 1)
    again = live.post(
        "/v1/keys/main-path/decrypt", app, {"ciphertext": moved["ciphertext"], "context": {"patient": "p-2"}}
    ).json()
    assert base64.b64decode(again["plaintext"]) == b"record"
    refused = live.post("/v1/keys/main-path/decrypt", app, {"ciphertext": moved["ciphertext"], "context": context})
    assert (refused.status_code, refused.json()["code"]) == (400, "undecipherable")
