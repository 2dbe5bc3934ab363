"""Contexts that come again: what is remembered of them is what would be worked out anew, for whoever asks, until the seal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from keyclave.audit.event import decode
from keyclave.core.errors import Malformed, Sealed
from keyclave.identity.peer import Peer
from keyclave.operations import contexts as room
from keyclave.operations.unseal import close_house
from keyclave.protocols.rest.gateway import Head, read_head, reply_to
from tests.protocols.inside import BY_PATH, Inside, inside

SCOPE = '{"operations":["encrypt","decrypt"],"keys":["*"]}'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Inside]:
    """A server with a key."""
    with inside(tmp_path) as made:
        made.ask("POST", "/v1/keys", made.tokens["custodian"], b'{"name":"k","owner":"o"}')
        yield made


def _use(server: Inside, token: str, path: str, body: Any) -> tuple[int, list[dict[str, list[str]]]]:
    """Return the status, and the contexts of the events that were left."""
    first = server.store.next_event
    status, _ = server.ask("POST", path, token, json.dumps(body).encode(), ref="k")
    return status, [decode(entry).context or {} for entry in server.store.read_entries(first, 1000)]


@pytest.mark.requirement("R10")
def test_what_a_batch_records_is_never_added_to_what_others_record(server: Inside) -> None:
    """The context of a batch's first item is remembered for everybody, and the others' values are added to the event's."""
    _, token = server.issue("app", "application", SCOPE)
    one: dict[str, Any] = {"plaintext": "", "context": {"ward": "3", "patient": "p-1"}}
    two: dict[str, Any] = {"plaintext": "", "context": {"patient": "p-2", "visit": "v"}}
    path = "/v1/keys/{key}/encrypt"
    _, [alone] = _use(server, token, path, one)
    assert sorted(alone) == list(alone) == ["patient", "ward"]
    _, [other] = _use(server, token, path, two)
    for _ in range(2):
        status, [both] = _use(server, token, path + "/batch", {"items": [one, two, one]})
        assert status == 200
        assert both == {"patient": alone["patient"] + other["patient"], "visit": other["visit"], "ward": alone["ward"]}
        assert _use(server, token, path, one)[1] == [alone]
        assert _use(server, token, path, two)[1] == [other]
    assert _use(server, token, path + "/batch", {"items": [one, one]})[1] == [alone]


@pytest.mark.requirement("R10")
def test_a_remembered_context_is_the_one_of_its_tenant_and_spelling(server: Inside) -> None:
    known, tenant = server.desk.contexts, server.issue("app", "application", SCOPE)[0]
    home = next(iter(server.desk.keyring._tenants))[0]
    first = known.of(home, {"a": "1", "b": "2"})
    assert known.of(home, {"a": "1", "b": "2"}) is first
    turned = known.of(home, {"b": "2", "a": "1"})
    assert (turned.encoded, turned.recorded) == (first.encoded, first.recorded)
    assert known.of(home, {"a": "1", "b": "3"}).recorded["b"] != first.recorded["b"]
    with pytest.raises(Sealed):  # another tenant has other keys: nothing remembered stands in for them
        known.of(tenant, {"a": "1", "b": "2"})
    for _ in range(2):  # what was refused is not remembered as good
        with pytest.raises(Malformed):
            known.of(home, {"two words": "1"})


@pytest.mark.requirement("R10")
def test_memory_of_contexts_is_bounded_and_ends_with_the_seal(server: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CAPACITY", 50)
    known = server.desk.contexts
    home = next(iter(server.desk.keyring._tenants))[0]
    long = {"long": "x" * 600}
    assert known.of(home, long) is not known.of(home, long)
    for number in range(500):
        known.of(home, {"patient": f"p-{number}"})
        assert len(known._known) <= 50
        assert len(known._tags) <= 50
    assert known._known
    close_house(server.desk)
    assert not known._known
    assert not known._tags
    with pytest.raises(Sealed):
        known.of(home, {"patient": "p-499"})


TWICE = {
    "an empty one last": '{"plaintext":"","context":{"a":"1"},"context":{}}',
    "another one last": '{"plaintext":"","context":{"a":"1"},"context":{"a":"2"}}',
    "an entry": '{"plaintext":"","context":{"a":"1","a":"2"}}',
    "in another spelling": '{"plaintext":"","context":{"a":"1"},"cont\\u0065xt":{}}',
    "apart from its colon": '{"plaintext":"","context":{"a":"1"},"context" : {}}',
    "what it is if left out, twice": '{"plaintext":"","context":{},"context":{}}',
    "something else": '{"plaintext":"","plaintext":"eA==","context":{"a":"1"}}',
}


@pytest.mark.requirement("R10")
@pytest.mark.parametrize("body", TWICE.values(), ids=list(TWICE))
def test_a_context_does_not_become_another_one_by_being_sent_twice(server: Inside, body: str) -> None:
    """The last of two counted: whoever was shown the first (a filter before us, a log) saw a context that nothing was bound to."""
    _, token = server.issue("app", "application", SCOPE)
    path = "/v1/keys/{key}/encrypt"
    for form, text in ((path, body), (path + "/batch", f'{{"items":[{{"plaintext":""}},{body}]}}')):
        status, answer = server.ask("POST", form, token, text.encode(), ref="k")
        assert (status, json.loads(answer)["code"], b"twice" in answer) == (400, "malformed", True)
        head = read_head([(b"authorization", b"Bearer " + token.encode())], b"")
        head.comes_again = True  # as the fast lane keeps it
        for number, (sent, expected) in enumerate([(b'{"plaintext":""}', 200)] * 2 + [(text.encode(), 400)]):
            if form == path:
                assert _again(server, head, path, sent) == expected, number


def _again(server: Inside, head: Head, path: str, body: bytes) -> int:
    """Send what has the head of the one before, as the fast lane does."""
    answers: list[int] = []
    respond = lambda status, *_rest: answers.append(status)  # noqa: E731
    op = BY_PATH["POST", path]
    if head.repeat is None or not server.gateway.submit_again(head.repeat, body, Peer("test"), partial(reply_to, op, respond)):
        server.gateway.submit(op, "k", head, body, Peer("test"), respond)
    server.store.flush()
    return answers.pop()
