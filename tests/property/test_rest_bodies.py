"""Whatever is sent to an operation, the answer is one of ours, the record says the same, and the server goes on."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyclave.operations.table import OPERATIONS
from keyclave.policy.duties import DUTIES, SCOPED
from keyclave.protocols.rest.problems import STATUS
from tests.live import Live

# Making RSA keys for nothing, new tenants by the hundred and a sealed server are no part of this.
LEFT_OUT = {"import-parameters", "tenant-create", "seal", "self-test"}
BODIES = [op for op in OPERATIONS if op.request is not None and op.name not in LEFT_OUT]
QUERIES = [op for op in OPERATIONS if op.method == "GET"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
# Texts that some field or other takes, so that bodies get past the first look.
plausible = st.sampled_from(
    ["", "eA==", "bnVs", "prop-key", "aes-256", "encrypt", "1", "x" * 200, "KC\x01\x01", "key_" + "a" * 26]
)
small = st.sampled_from([0, 1, 2, 16, 32, 2**31 - 1, 2**31, -1])
contexts = st.dictionaries(st.text("ab!~ é\n", max_size=3), st.text(max_size=4), max_size=3)
values = plausible | small | st.booleans() | contexts | json_values

setting = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(scope="module")
def tokens(live: Live) -> dict[str, str]:
    live.create_key("prop-key")
    live.create_key("prop-spare")
    asked = {"principal": "prop-person", "role": "person", "ttl_seconds": 3600}
    person = live.post("/v1/credentials", "custodian", asked).json()["token"]
    return {**live.tokens, "application": live.token(sorted(SCOPED), ["prop-*"]), "person": person}


def path_of(op: Any, ref: str) -> str:
    return str(op.path).replace("{key}", quote(ref, safe="")).replace("{credential}", quote(ref, safe=""))


def holder(op: Any) -> str:
    """Return a role that may do the operation."""
    return str(DUTIES[op.name][0].value)


def asking(live: Live, tokens: dict[str, str], op: Any) -> str:
    """Return the token of somebody who may do the operation."""
    if op.name == "credential-renew":
        return live.token(["random"], ["none"])  # it ends the credential that asks
    return tokens[holder(op)]


def check(live: Live, answer: httpx.Response, name: str) -> None:
    """Check an answer against the table of errors, and against the event that it names."""
    content = answer.json()
    if answer.status_code < 400:
        assert answer.headers["content-type"] == "application/json"
        outcome = "ok"
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.status_code == content["status"] == STATUS[content["code"]]
        assert answer.status_code < 500, answer.text
        assert content["detail"]
        assert len(answer.content) < 2000  # an error does not carry the request back
        outcome = content["code"]
    number = int(content["event"].rpartition("-")[2])
    event = live.get("/v1/audit/events", "auditor", params={"from": number, "limit": 1}).json()["events"][0]
    assert (event["id"], event["op"], event["outcome"]) == (content["event"], name, outcome)


@st.composite
def near_bodies(draw: st.DrawFn, op: Any) -> Any:
    """Draw a body that has some of the operation's fields, and perhaps one that it has not."""
    fields = {name: draw(values) for name in op.request.__struct_encode_fields__ if draw(st.booleans())}
    if op.batch:
        one = st.dictionaries(
            st.sampled_from(["plaintext", "ciphertext", "message", "context", "bytes", "mac", "wrapped"]), values
        )
        fields["items"] = draw(st.lists(one, max_size=5))
    if draw(st.integers(0, 9)) == 0:
        fields[draw(st.text(max_size=6))] = draw(values)
    return fields


@st.composite
def requests(draw: st.DrawFn) -> tuple[Any, bytes]:
    """Draw an operation and bytes to send to it: nonsense, JSON of no form, nearly a request, or one with a byte changed."""
    op = draw(st.sampled_from(BODIES))
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return op, draw(st.binary(max_size=200))
    body = draw(json_values if kind == 1 else near_bodies(op))
    raw = bytearray(json.dumps(body, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass"))
    if kind == 2 and raw:
        at = draw(st.integers(0, len(raw) - 1))
        raw[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return op, bytes(raw)


@pytest.mark.requirement("R5", "P1")
@given(request=requests(), ref=st.sampled_from(["prop-key", "prop-key", "prop-spare", "prop-none"]))
@setting
def test_any_body_gets_an_answer_of_ours_and_an_event(
    live: Live, tokens: dict[str, str], request: tuple[Any, bytes], ref: str
) -> None:
    op, body = request
    answer = live.request(op.method, path_of(op, ref), asking(live, tokens, op), alone=True, content=body)
    check(live, answer, op.name)


@pytest.mark.requirement("R5", "P1")
@given(
    op=st.sampled_from(OPERATIONS),
    ref=st.text(min_size=1, max_size=40),
    body=near_bodies(next(o for o in BODIES if o.name == "encrypt")),
)
@setting
def test_any_name_in_a_path_gets_an_answer_of_ours(live: Live, tokens: dict[str, str], op: Any, ref: str, body: Any) -> None:
    if op.name in LEFT_OUT or "{" not in op.path or ref in (".", ".."):  # which a client resolves before it sends
        return
    content = None if op.method == "GET" else json.dumps(body).encode()
    answer = live.request(op.method, path_of(op, ref), asking(live, tokens, op), alone=True, content=content)
    if "event" in answer.json():
        check(live, answer, op.name)
    else:  # a slash in the name: another path, at which nothing is
        assert (answer.status_code, "/" in ref) == (404, True)


@pytest.mark.requirement("R5")
@given(
    op=st.sampled_from(QUERIES),
    query=st.dictionaries(
        st.sampled_from(["from", "limit", "cursor", "name", "state", "key", "actor", "operation", "outcome", "version", "x"]),
        st.text(max_size=12) | st.integers().map(str) | plausible,
        max_size=3,
    ),
)
@setting
def test_any_query_gets_an_answer_of_ours(live: Live, tokens: dict[str, str], op: Any, query: dict[str, str]) -> None:
    role = "auditor" if any(r.value == "auditor" for r in DUTIES[op.name]) else holder(op)
    answer = live.get(path_of(op, "prop-key"), tokens[role], params=query)
    check(live, answer, op.name)


@given(
    share=st.text(max_size=600) | st.text("kcs1-0123456789ABCDEFGHJKMNPQRSTVWXYZ", max_size=90).map("kcs1-".__add__) | json_values
)
@setting
def test_any_share_gets_an_answer_of_ours(live: Live, tokens: dict[str, str], share: Any) -> None:
    answer = live.request("POST", "/v1/unseal", content=json.dumps({"share": share}).encode())
    assert answer.json()["code"] in ("malformed", "wrong_state", "limit_reached", "too_large")
    assert live.get("/v1/health").json() == {"status": "ok"}


def test_after_all_that_nothing_is_said_of_a_fault(live: Live, tokens: dict[str, str]) -> None:
    said = (live.home.parent / f"{live.home.name}.server.log").read_text()
    assert "Uvicorn running" in said
    assert "Traceback" not in said
    assert " ERROR " not in said
