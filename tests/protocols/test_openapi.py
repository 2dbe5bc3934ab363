"""The OpenAPI document: it is one, it says what is served and nothing else, and the server keeps to it whatever is sent."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.core import NotSet
from starlette.routing import Route

from keyclave.operations.table import OPERATIONS
from keyclave.policy.duties import DUTIES, SCOPED
from keyclave.protocols.rest.asgi import application
from keyclave.protocols.rest.openapi import document
from keyclave.protocols.rest.problems import STATUS
from tests.live import Live, launch
from tests.protocols.inside import inside

DOCUMENT = document(OPERATIONS)
METHODS = ("get", "post", "put", "patch", "delete")


def described() -> dict[tuple[str, str], dict[str, Any]]:
    """Return what the document describes, by method and path."""
    return {(m.upper(), path): item[m] for path, item in DOCUMENT["paths"].items() for m in METHODS if m in item}


def test_the_document_is_openapi(live: Live) -> None:
    served = live.get("/v1/openapi.json")
    assert served.headers["content-type"] == "application/json"
    assert served.content == msgspec.json.format(msgspec.json.encode(DOCUMENT), indent=2)
    errors = list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors())
    assert errors == []
    identities = [operation["operationId"] for operation in described().values()]
    assert len(identities) == len(set(identities))


def test_every_operation_of_the_table_is_described(live: Live) -> None:
    found = described()
    for op in OPERATIONS:
        entry = found[op.method, op.path]
        assert entry["x-operation"] == op.name
        assert entry["x-roles"] == [role.value for role in DUTIES[op.name]]
        assert str(op.status) in entry["responses"]
        assert {"4XX", "5XX"} <= set(entry["responses"])
        assert ("requestBody" in entry) == (op.request is not None)
        names = {p["name"] for p in entry["parameters"]}
        assert {name.strip("{}") for name in re.findall(r"\{\w+\}", op.path)} <= names
        assert ({"dry_run", "Idempotency-Key"} <= names) == op.changes
        assert entry["summary"]


def test_every_path_that_is_served_is_described_and_the_reverse(tmp_path: Path) -> None:
    with inside(tmp_path) as server:
        routes = [r for r in application(server.gateway, OPERATIONS).routes if isinstance(r, Route)]
    served = {(m, re.sub(r":\w+\}", "}", r.path)) for r in routes for m in r.methods or () if m != "HEAD"}
    assert served == set(described())


def test_what_needs_no_credential_is_marked_and_is_all_there_is(live: Live) -> None:
    for (method, path), entry in described().items():
        public = entry.get("security") == []
        answer = live.request(method, re.sub(r"\{\w+\}", "1", path), content=b"{}" if method != "GET" else None)
        refused = answer.status_code == 401 and "bearer" not in answer.json()["hint"].lower()  # a login that did not succeed
        assert (answer.status_code != 401 or refused) == public, path
    assert DOCUMENT["security"] == [{"bearer": []}]


def test_every_code_of_an_error_has_its_status_and_every_status_is_in_a_range_that_is_described() -> None:
    for code, status in STATUS.items():
        assert 400 <= status <= 599, code
    problem = DOCUMENT["components"]["responses"]["Problem"]
    assert list(problem["content"]) == ["application/problem+json"]


@pytest.mark.parametrize("path", ["/v1/keys", "/v1/keys/some", "/v1/keys/some/encrypt", "/v1/unseal", "/v1/log/keys"])
def test_a_method_that_is_not_served_is_told_which_are(live: Live, path: str) -> None:
    served = {method for method, described_path in described() if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", described_path), path)}
    answer = live.request("DELETE", path, "custodian")
    assert (answer.status_code, answer.json()["status"], answer.headers["content-type"]) == (405, 405, "application/problem+json")
    assert set(re.split(r",\s*", answer.headers["allow"])) - {"HEAD"} == served


@pytest.mark.parametrize("path", ["/v1/keys/", "/v1/keys/%2F", "/v1/whoami/", "/v1//keys", "/", "/v1"])
def test_a_path_with_a_slash_too_many_leads_nowhere(live: Live, path: str) -> None:
    answer = live.get(path, "custodian", headers={"host": "elsewhere.example"})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown")
    assert "elsewhere" not in str(answer.headers)


# ---- what is sent by the document comes back by the document ------------------------------------------------------------------
@dataclass
class Target:
    """A server to be fuzzed, whose keys may be ruined, and who may do what there."""

    live: Live
    tokens: dict[str, str]
    credentials: Iterator[str]
    session: requests.Session


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    live = launch(tmp_path_factory.mktemp("fuzzed"), "--development", unseal=False)
    for name, (spec, purpose) in KEYS.items():
        live.create_key(name, spec=spec, purpose=purpose)
    made = [
        live.post("/v1/credentials", "custodian", {"principal": f"spare-{i}", "role": "auditor", "ttl_seconds": 600}).json()["id"]
        for i in range(3)
    ]
    issued = {"principal": "anybody", "role": "person", "ttl_seconds": 3600}
    person = live.post("/v1/credentials", "custodian", issued).json()["token"]
    session = requests.Session()
    tokens = {**live.tokens, "application": live.token(sorted(SCOPED), ["*"]), "person": person}
    yield Target(live, tokens, itertools.cycle(made), session)
    session.close()
    live.stop()


KEYS = {
    "f-aes": ("aes-256", "encrypt"), "f-sign": ("ed25519", "sign"), "f-mac": ("hmac-sha-256", "mac"),
    "f-agree": ("ecdh-p256", "agree"), "f-kem": ("ml-kem-768", "encapsulate"),
}  # fmt: skip
FITTING = {
    "sign": "f-sign", "verify": "f-sign", "public-key": "f-sign", "mac": "f-mac", "verify-mac": "f-mac",
    "derive-shared-secret": "f-agree", "encapsulate": "f-kem", "decapsulate": "f-kem",
}  # fmt: skip

schema = schemathesis.openapi.from_dict(document(OPERATIONS)).exclude(
    operation_id="post-seal"
)  # it would end the run: see test_sealing


def whole(value: Any) -> Any:
    """Return the value with whole numbers written as such: JSON Schema takes 5.0 for an integer, the server does not."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    if isinstance(value, dict):
        return {name: whole(inner) for name, inner in value.items()}
    return [whole(inner) for inner in value] if isinstance(value, list) else value


def is_positive(case: Any) -> bool:
    return case.meta is not None and case.meta.generation.mode.is_positive


def form_of_the_request_is_the_documents(_ctx: Any, response: Any, case: Any) -> None:
    """What the document permits, the decoder permits: it may fail for its content or state, never for its form."""
    if is_positive(case) and response.status_code == 400:
        assert "does not have the form" not in response.json()["detail"], response.text


def errors_are_whole(_ctx: Any, response: Any, _case: Any) -> None:
    """Every error is a problem whose parts agree with each other and with the answer."""
    if response.status_code >= 400 and response.headers["content-type"] != ["application/json"]:
        problem = response.json()
        assert problem["type"] == f"urn:keyclave:error:{problem['code']}"
        assert problem["status"] == response.status_code
        assert problem["status"] in (STATUS[problem["code"]], 405)
        assert problem["detail"]


@pytest.mark.requirement("R5", "R14")
@schema.parametrize()
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
def test_the_server_keeps_to_the_document(target: Target, case: Any) -> None:
    entry = case.operation.definition.raw
    name = entry.get("x-operation", "")
    role = "application" if name in SCOPED else next(iter(entry.get("x-roles", ["auditor"])))
    if is_positive(case):  # mostly at what is there, so that requests get as far as they can
        case.body = whole(case.body)
        if "key" in (case.path_parameters or {}) and len(str(case.path_parameters["key"])) != 1:
            case.path_parameters["key"] = FITTING.get(name, "f-aes")
        if "credential" in (case.path_parameters or {}):
            case.path_parameters["credential"] = next(target.credentials)
    token = (
        target.live.token(["encrypt"], ["f-aes"]) if name == "credential-renew" else target.tokens[role]
    )  # it ends the old one
    headers = {"Authorization": f"Bearer {token}"}
    response = case.call(base_url=target.live.url, session=target.session, headers=headers, verify=target.live.ca_file)
    # refusals for reasons of content, state and revision are answers to well-formed requests here
    excluded = [schemathesis.checks.positive_data_acceptance]
    if isinstance(case.body, NotSet) and not entry.get("requestBody", {}).get("required", True):
        excluded.append(schemathesis.checks.negative_data_rejection)  # an optional body left out violates nothing
    case.validate_response(
        response,
        additional_checks=[form_of_the_request_is_the_documents, errors_are_whole],
        excluded_checks=excluded,
        headers=headers,
        transport_kwargs={"verify": target.live.ca_file, "base_url": target.live.url},
    )


def test_after_all_that_the_server_is_well_and_said_nothing_of_a_fault(target: Target) -> None:
    assert target.live.get("/v1/health").json() == {"status": "ok"}
    target.live.create_key("f-after")
    app = target.live.token(["encrypt"], ["f-after"])
    assert target.live.post("/v1/keys/f-after/encrypt", app, {"plaintext": ""}).status_code == 200
    said = (target.live.home.parent / f"{target.live.home.name}.server.log").read_text()
    assert "Traceback" not in said
    assert " ERROR " not in said
