"""A name that is there twice in one object: whatever the body, spelling or spacing, it is refused, and nothing else is for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyclave.core.errors import Malformed
from keyclave.operations.operation import Operation
from keyclave.operations.table import OPERATIONS
from keyclave.protocols.rest import bodies
from keyclave.protocols.rest.bodies import Bodies

BY_PATH = {op.path: op for op in OPERATIONS if op.method == "POST"}
BODIES = Bodies(OPERATIONS)
CONTEXT = [("a", "1"), ("b", ""), ("c", "tr\u00e4ger"), ("d", "{"), ("e", ':"'), ("f", '","context":{}'), ("g", "\\")]
INNER = {"cryptoperiod": '{"protect_days":1,"process_days":2%s}', "rotation": '{"every_days":1%s}'}
"""Objects in a field of which the reader does not know how many names it has, and room for one more."""
FIELDS: dict[str, list[tuple[str, Any]]] = {  # values that are a field's own default among them: they count as left out
    "encrypt": [("plaintext", "eA=="), ("plaintext", ""), ("context", {})],
    "re-encrypt": [("ciphertext", "eA=="), ("context", {}), ("to_key", "k"), ("to_key", None), ("to_context", {})],
    "data-key": [("bytes", 32), ("bytes", 16), ("context", {}), ("plaintext", True), ("plaintext", False)],
    "data-key-pair": [("spec", "ed25519"), ("context", {}), ("private", False)],
    "create": [
        ("name", "k"),
        ("owner", "o"),
        ("owner", "_"),
        ("spec", "aes-256"),
        ("tags", {"a": "1"}),
        ("activate", False),
        ("cryptoperiod", INNER["cryptoperiod"] % ""),
        ("cryptoperiod", INNER["cryptoperiod"] % ',"process_days":3'),
        ("cryptoperiod", None),
        ("rotation", INNER["rotation"] % ""),
        ("rotation", INNER["rotation"] % ',"every_days":1'),
    ],
    "verify": [("message", ""), ("signature", ""), ("digested", True), ("algorithm", "ed25519"), ("version", 2)],
}
REQUIRED = {
    "create": {"name", "owner"},
    "encrypt": {"plaintext"},
    "re-encrypt": {"ciphertext"},
    "data-key-pair": {"spec"},
    "verify": {"message", "signature"},
}

spaces = st.sampled_from(["", "", "", " ", "\n\t"])


@st.composite
def written(draw: st.DrawFn, pairs: list[tuple[str, str]]) -> str:
    """Write an object of names and values that are written already, spaced and spelt as JSON allows."""
    parts = []
    for name, value in pairs:
        escaped = "".join(f"\\u{ord(one):04x}" for one in name) if draw(st.integers(0, 9)) == 0 else name
        parts.append(f'{draw(spaces)}"{escaped}"{draw(spaces)}:{draw(spaces)}{value}{draw(spaces)}')
    return "{" + ",".join(parts) + "}"


@st.composite
def objects(draw: st.DrawFn, verb: str) -> tuple[str, bool]:
    """Return a request of a verb, and whether a name is there twice in one of its objects."""
    fields = draw(st.lists(st.sampled_from(FIELDS[verb]), max_size=5))
    missing = REQUIRED.get(verb, set()) - {name for name, _ in fields}
    fields += [next(field for field in FIELDS[verb] if field[0] == name) for name in sorted(missing)]
    twice, pairs = len({name for name, _ in fields}) < len(fields), []
    for name, value in fields:
        if value == {}:
            entries = draw(st.lists(st.sampled_from(CONTEXT), max_size=3))
            twice = twice or len({entry for entry, _ in entries}) < len(entries)
            text = draw(written([(entry, json.dumps(said)) for entry, said in entries]))
        elif name in INNER and value is not None:
            text, twice = value, twice or value != INNER[name] % ""
        else:
            text = json.dumps(value)
        pairs.append((name, text))
    return draw(written(pairs)), twice


@st.composite
def requests(draw: st.DrawFn) -> tuple[Operation, bytes, bool]:
    verb = draw(st.sampled_from(sorted(FIELDS)))
    path = "/v1/keys" if verb == "create" else f"/v1/keys/{{key}}/{verb}"
    if verb == "create" or draw(st.booleans()):
        text, twice = draw(objects(verb))
        return BY_PATH[path], text.encode(), twice
    items = draw(st.lists(objects(verb), min_size=1, max_size=4))
    again = draw(st.integers(0, 4)) == 0
    listed = f"[{','.join(text for text, _ in items)}]"
    body = draw(written([("items", listed)] * (2 if again else 1)))
    return BY_PATH[f"{path}/batch"], body.encode(), again or any(twice for _, twice in items)


@given(requests())
def test_a_body_is_refused_if_and_only_if_a_name_is_there_twice(request: tuple[Operation, bytes, bool]) -> None:
    op, body, twice = request
    if twice:
        with pytest.raises(Malformed):
            BODIES.read(op, body)
    else:
        BODIES.read(op, body)


def test_bodies_as_clients_write_them_are_not_looked_at_name_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """What costs as much as all the rest of reading is done for bodies in which it may be needed."""
    monkeypatch.setattr(bodies, "repeats_a_name", lambda _raw: pytest.fail("looked at name by name"))
    item = {"plaintext": "eA==", "context": {"patient": "p-1", "purpose": "tr\u00e4ger"}}
    for body in (item, {"plaintext": ""}):
        for text in (json.dumps(body, ensure_ascii=False), json.dumps(body, ensure_ascii=False, separators=(",", ":"))):
            BODIES.read(BY_PATH["/v1/keys/{key}/encrypt"], text.encode())
            BODIES.read(BY_PATH["/v1/keys/{key}/encrypt/batch"], f'{{"items":[{text},{text}]}}'.encode())
    BODIES.read(BY_PATH["/v1/keys"], b'{"name":"k","owner":"cardiology","environment":"test","tags":{"a":"1"}}')
    monkeypatch.setattr(bodies, "_all_different", lambda _raw: pytest.fail("looked at name by name"))
    BODIES.read(BY_PATH["/v1/keys"], b'{"name":"k","owner":"cardiology","environment":"test","tags":{"a":"1"}}')
    BODIES.read(BY_PATH["/v1/keys/{key}/data-key"], b'{"bytes":64,"plaintext":false}')
    BODIES.read(BY_PATH["/v1/keys/{key}/sign"], b'{"message":"eA==","algorithm":"ed25519"}')
