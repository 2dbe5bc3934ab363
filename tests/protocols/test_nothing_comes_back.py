"""No value of a request comes back in an error or in the server's own log, wherever it was put."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from keyclave.operations.table import OPERATIONS
from tests.live import Live, launch
from tests.protocols.every import Every, b64

MARKER = "Geheimnis-7f31c9e2b8"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A development server of these tests' own, whose server.log they read whole."""
    server = launch(tmp_path_factory.mktemp("house"), "--development", unseal=False)
    yield server
    server.stop()


def markings(value: Any) -> Iterator[Any]:
    """Yield the value with the marker in each place in turn: instead of it, in a list, in an object, inside of it, as a name.

    Not as the name of an entry of a context that is otherwise well formed: those names are public, the record shows them.
    """
    yield from (MARKER, [MARKER], {"a": MARKER}, {"a": {"b": [MARKER]}}, MARKER * 40)
    if isinstance(value, dict):
        for name, inner in value.items():
            for marked in markings(inner):
                yield {**value, name: marked}
        yield {**value, "unknown": MARKER}
        yield {**value, MARKER: 1}
    if isinstance(value, list):
        for at, inner in enumerate(value[:1]):
            for marked in markings(inner):
                yield [*value[:at], marked, *value[at + 1 :]]
    if isinstance(value, str):
        yield value + MARKER
        yield b64(MARKER.encode())
        yield f"{MARKER}\n{MARKER}"


def is_clean(answer: httpx.Response) -> bool:
    said = answer.text + " ".join(f"{n}: {v}" for n, v in answer.headers.items())
    return MARKER not in said and b64(MARKER.encode()).rstrip("=") not in said


@pytest.mark.requirement("P7", "P8", "R5")
def test_a_value_in_the_wrong_place_comes_back_in_no_error_and_in_no_log(house: Live) -> None:
    sent = refused = 0
    fields = set()
    for call in Every(house, "marked"):
        if call.op.name in ("seal", "import-parameters"):
            continue
        names = [f.encode_name for f in msgspec.structs.fields(call.op.request)] if call.op.request else []
        body = call.body or {}
        for name in [*names, "unknown", MARKER]:
            fields.add((call.path.partition("?")[0], name))
            for marked in markings(body.get(name)):
                answer = (
                    call.send(house, json={**body, name: marked})
                    if call.op.request
                    else call.send(house, params={name: str(marked)})
                )
                sent += 1
                if answer.status_code >= 400:
                    refused += 1
                    if answer.json()["code"] == "conflict" and name == "name":
                        continue  # it was taken as a name before, and names are public: the record and every list have them
                    assert is_clean(answer), f"{call.path} {name}={marked!r}: {answer.text}"
        if call.op.changes:
            for header in ("if-match", "idempotency-key"):
                answer = call.send(house, headers={header: f"{MARKER}ü".encode()})
                gone = call.op.name == "step-up" and answer.status_code == 401  # a proof given above made a new token
                assert gone or answer.status_code == 400 or (header == "if-match" and not call.op.on_key), call.path
                assert is_clean(answer) or answer.status_code < 400
        answer = call.send(house, MARKER)
        assert answer.status_code == 401
        assert is_clean(answer)
        if call.op.request:
            answer = call.send(house, json=None, content=json.dumps(body).encode() + MARKER.encode())
            gone = call.op.name == "step-up" and answer.status_code == 401  # as above
            assert gone or answer.status_code == 400, call.path
            assert is_clean(answer)
        call.send(house)  # so that what follows finds the state it needs
    for path in ("keys/{}-x", "keys/{}-x/public-key", "{}", "audit/receipts/{}", "log/tile/{}", "log/checkpoint/{}"):
        for token in (None, "custodian"):
            answer = house.get("/v1/" + path.format(MARKER), token)
            assert answer.status_code in (401, 403, 404)
            assert is_clean(answer)
    for text in (MARKER, f"kcs1-{MARKER}", [MARKER], {"a": MARKER}):
        assert is_clean(house.post("/v1/unseal", body={"share": text}))
        assert is_clean(house.post("/v1/unseal", body={"unknown": text}))
        assert is_clean(house.post("/v1/unseal", body={MARKER: text}))
    assert len(fields) > 3 * len(OPERATIONS) // 2
    assert refused > sent // 2 > 500
    said = (house.home.parent / f"{house.home.name}.server.log").read_text()
    assert "DEVELOPMENT ROOT" in said  # it is the right file
    assert MARKER not in said
    assert "Traceback" not in said
