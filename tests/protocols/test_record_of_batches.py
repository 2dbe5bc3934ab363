"""What the one event of a batch says: every key and version that was used, and nothing that was only tried."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyclave.audit.event import decode
from keyclave.identity.peer import Peer
from keyclave.protocols.rest.gateway import read_head
from tests.protocols.clocked import DECRYPT, ENCRYPT, PLAIN, House, clocked
from tests.protocols.inside import BY_PATH
from tests.protocols.repeating import RE_ENCRYPT

BROKEN = {"ciphertext": "AAAA"}


class Batches:
    """A house with an application for all its keys."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.app = house.issued(
            "mover", "application", {"operations": ["encrypt", "decrypt", "re-encrypt", "sign"], "keys": ["*"]}
        )

    def key(self, name: str, **more: Any) -> str:
        return str(self.house.ask("POST", "/v1/keys", "custodian", {"name": name, "owner": "o", **more}, expect=201)["id"])

    def sealed(self, **context: str) -> str:
        body = {"plaintext": PLAIN, "context": context}
        return str(self.house.ask("POST", ENCRYPT, self.app, body, ref="ward", expect=200)["ciphertext"])

    def event(self, path: str, items: list[dict[str, Any]], ref: str = "ward") -> dict[str, Any]:
        """Send a batch and return its one event."""
        self.house.ask("POST", f"{path}/batch", self.app, {"items": items}, ref=ref, expect=200)
        return self.house.events()[-1]

    def found(self, key: str) -> list[str]:
        """Return the operations of the events that are found when a key is asked for."""
        server, answers = self.house.server, []
        head = read_head([(b"authorization", b"Bearer " + server.tokens["auditor"].encode())], b"")
        server.gateway.submit(
            BY_PATH["GET", "/v1/audit/events"], "", head, {"key": key}, Peer("test"), lambda *answer: answers.append(answer)
        )
        server.store.flush()
        ((_status, _kind, text, _more),) = answers
        return [event["op"] for event in json.loads(text)["events"]]


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Batches]:
    with clocked(tmp_path, monkeypatch) as house:
        yield Batches(house)


@pytest.mark.requirement("R5", "P8")
def test_every_key_that_something_was_re_encrypted_to_is_named_and_found(batches: Batches) -> None:
    """The last target alone was: a compromise of the first left nobody to ask which ciphertexts it protects."""
    lab, study = batches.key("lab"), batches.key("study")
    batches.house.ask("POST", "/v1/keys/{key}/rotate", "operator", ref="study", expect=200)
    sealed = batches.sealed()
    items = [{"ciphertext": sealed, "to_key": name} for name in ("lab", "study", "lab")]
    assert batches.event(RE_ENCRYPT, items)["detail"] == {"to_key": f"{lab},{study}", "to_version": "1,2"}
    assert batches.event(RE_ENCRYPT, items[:1])["detail"] == {"to_key": lab, "to_version": 1}
    assert batches.found(lab) == ["key-create", "re-encrypt", "re-encrypt"]
    assert batches.found(study) == ["key-create", "rotate", "re-encrypt"]


@pytest.mark.requirement("R5", "P8")
def test_an_item_that_fails_hides_no_key_and_names_none(batches: Batches) -> None:
    lab, study = batches.key("lab"), batches.key("study")
    items = [{"ciphertext": batches.sealed(), "to_key": "lab"}, {**BROKEN, "to_key": "study"}, {**BROKEN, "to_key": "none"}]
    event = batches.event(RE_ENCRYPT, items)
    assert event["detail"] == {"to_key": lab, "to_version": 1, "undecipherable": 1, "unknown": 1}
    assert event["failed"] == 2
    assert batches.found(study) == ["key-create"]


@pytest.mark.requirement("R5", "P8")
def test_every_version_that_opened_something_is_named_and_no_other(batches: Batches) -> None:
    sealed = []
    for _ in range(3):
        sealed.append(batches.sealed())
        batches.house.ask("POST", "/v1/keys/{key}/rotate", "operator", ref="ward", expect=200)
    first, second, third = ({"ciphertext": each} for each in sealed)
    flipped = {"ciphertext": sealed[2][:-8] + ("AAAAAAA=" if sealed[2].endswith("=") else "AAAAAAAA")}
    event = batches.event(DECRYPT, [first, second])
    assert (event["version"], event["detail"]) == (2, {"versions": "1,2"})
    event = batches.event(DECRYPT, [second, first, flipped])
    assert (event["version"], event["detail"]) == (2, {"undecipherable": 1, "versions": "1,2"})
    event = batches.event(DECRYPT, [third, first, third])
    assert (event["version"], event["detail"]) == (3, {"versions": "1,3"})
    event = batches.event(DECRYPT, [first, flipped])
    assert (event["version"], event["detail"]) == (1, {"undecipherable": 1})
    event = batches.event(DECRYPT, [flipped])
    assert ("version" in event, event["detail"]) == (False, {"undecipherable": 1})
    assert "detail" not in batches.event(DECRYPT, [first])


def test_every_algorithm_that_signed_is_named(batches: Batches) -> None:
    batches.key("seal", spec="rsa-3072", purpose="sign")
    algorithms = ["rsa-pss-sha-256", "rsa-pss-sha-512"]
    items = [{"message": PLAIN, "algorithm": algorithm} for algorithm in (*algorithms, algorithms[0])]
    event = batches.event("/v1/keys/{key}/sign", [*items, {"message": "!"}], ref="seal")
    assert event["detail"] == {"algorithm": ",".join(algorithms), "malformed": 1}


@pytest.mark.requirement("R5", "P8")
def test_a_thousand_targets_and_their_contexts_fit_into_events(batches: Batches) -> None:
    """The keys stand in the first event, which may be full of them; recorded contexts go on in further ones."""
    made = [batches.key(f"target-{number}") for number in range(1000)]
    sealed = batches.sealed()
    items = [
        {"ciphertext": sealed, "to_key": key, "to_context": {"patient": f"p{number}", "visit": f"v{number}"}}
        for number, key in enumerate(made)
    ]
    before = len(batches.house.events())
    assert batches.house.ask("POST", f"{RE_ENCRYPT}/batch", batches.app, {"items": items}, ref="ward", expect=200)
    parts = batches.house.events()[before:]
    assert [part["part"] for part in parts] == list(range(1, len(parts) + 1))
    assert len(parts) > 1
    assert parts[0]["detail"]["to_key"].split(",") == made
    assert not any("detail" in part for part in parts[1:])
    for entry in batches.house.server.store.read_entries(before, len(parts)):
        assert len(entry) < 65_535
        assert decode(entry).count == 1000
    for name in ("patient", "visit"):
        assert sum(len(part.get("context", {}).get(name, ())) for part in parts) == 1000
    assert json.dumps(parts).count('"to_key"') == 1
