"""The OpenAPI 3.1 document, printed from the operation table: what is not in the table is not served, and the reverse."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from keyclave import __version__
from keyclave.operations import read_log, unseal
from keyclave.operations.nodes import hand_on
from keyclave.operations.nodes.health import Health
from keyclave.operations.operation import Operation
from keyclave.policy.duties import DUTIES
from keyclave.protocols.rest import workloads
from keyclave.protocols.rest.login import document_ways, types_of_ways
from keyclave.protocols.rest.problems import Problem
from keyclave.protocols.rest.sso_document import document_sign_on, types_of_sign_on

_REF = "#/components/schemas/{name}"
_PATH_PARAMETER = re.compile(r"\{(\w+)\}")
_TEXT = {"type": "string"}


def document(operations: list[Operation]) -> dict[str, Any]:
    """Return the document."""
    types: list[Any] = [Problem, unseal.Status, unseal.UnsealRequest, unseal.UnsealAnswer]
    types += types_of_ways() + types_of_sign_on()
    types += [read_log.ReceiptAnswer, read_log.PromiseAnswer, read_log.ConsistencyAnswer]
    types += [Health, hand_on.NonceAnswer, hand_on.HandOnRequest, hand_on.HandOnAnswer]
    for op in operations:
        types += [t for t in (op.request, op.answer, op.query) if t is not None]
    unique = list(dict.fromkeys(types))
    schemas, components = msgspec.json.schema_components(unique, ref_template=_REF)
    named = dict(zip(unique, schemas, strict=True))
    paths: dict[str, Any] = {}
    for op in operations:
        paths.setdefault(op.path, {})[op.method.lower()] = _operation(op, named, components)
    paths |= _public(named) | _nodes(named) | _record(named) | _logins(named) | document_sign_on(named) | workloads.paths()
    components = msgspec.json.decode(msgspec.json.encode(components))  # as JSON has it: a default of () is an empty array
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Keyclave",
            "version": __version__,
            "summary": "Keys that protect health data, with a record that anyone can check.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "responses": {"Problem": _answer("what went wrong (RFC 9457)", named[Problem], "application/problem+json")},
        },
        "security": [{"bearer": []}],
    }


def _operation(op: Operation, named: dict[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    operation_id = op.path.removeprefix("/v1/").replace("{", "").replace("}", "").replace("/", "-")
    entry: dict[str, Any] = {
        "operationId": f"{op.method.lower()}-{operation_id}",
        "summary": op.summary,
        "tags": [op.path.split("/")[2]],
        "x-operation": op.name,
        "x-roles": [role.value for role in DUTIES[op.name]],
        "parameters": _parameters(op, named, components),
        "responses": {str(op.status): _answer("done", named[op.answer]), **_problems()},
    }
    if op.changes:
        entry["x-approval-header"] = "Keyclave-Approval"  # where policy has the operation wait for others
    if op.changes and op.status != 200:
        entry["responses"]["200"] = _answer("rehearsed (dry_run)", named[op.answer])
    if op.request is not None:
        needed = any(field.required for field in msgspec.structs.fields(op.request))
        entry["requestBody"] = {"required": needed, "content": {"application/json": {"schema": named[op.request]}}}
    return entry


def _parameters(op: Operation, named: dict[Any, Any], components: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in _PATH_PARAMETER.findall(op.path):
        description = "id or name of the key" if name == "key" else f"id of the {name}"
        schema = {"type": "string", "minLength": 1}
        found.append({"name": name, "in": "path", "required": True, "description": description, "schema": schema})
    if op.query is not None:
        form = components[named[op.query]["$ref"].rpartition("/")[2]]
        needed = form.get("required", ())
        for name, schema in form["properties"].items():
            found.append({"name": name, "in": "query", "required": name in needed, "schema": schema})
    if op.changes:
        found.append({"name": "dry_run", "in": "query", "schema": {"type": "boolean"}, "description": "rehearse, change nothing"})
        found.append({"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 128, "minLength": 1}})
    if op.changes and op.on_key:
        found.append({"name": "If-Match", "in": "header", "schema": {"type": "string", "pattern": '^"?[0-9]{1,9}"?$'}})
    return found


def _answer(description: str, schema: Any, kind: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": schema}}}


def _problems() -> dict[str, Any]:
    return {status: {"$ref": "#/components/responses/Problem"} for status in ("4XX", "5XX")}


def _get(identity: str, summary: str, answer: dict[str, Any], *, public: bool, parameters: Any = ()) -> dict[str, Any]:
    entry = {
        "operationId": identity,
        "summary": summary,
        "tags": ["log" if "log" in identity or "audit" in identity else "server"],
        "parameters": list(parameters),
        "responses": {"200": answer, **_problems()},
    }
    if public:
        entry["security"] = []
    return {"get": entry}


def _public(named: dict[Any, Any]) -> dict[str, Any]:
    state = {"type": "object", "properties": {"status": {"enum": ["ok", "sealed", "broken"]}}, "required": ["status"]}
    vkeys = {"type": "object", "properties": {"origin": _TEXT, "vkeys": {"type": "array", "items": _TEXT}}}
    offer = {
        "operationId": "unseal",
        "summary": "Give a custodian's share; the share is the authority. A credential, if one is sent, says who brought it.",
        "tags": ["server"],
        "security": [],
        "requestBody": {"required": True, "content": {"application/json": {"schema": named[unseal.UnsealRequest]}}},
        "responses": {"200": _answer("how far it is", named[unseal.UnsealAnswer]), **_problems()},
    }
    health = _get("health", "Say whether keys can be used.", _answer("they can", state), public=True)
    health["get"]["responses"]["503"] = _answer("they cannot", state)
    return {
        "/v1/health": health,
        "/v1/status": _get("status", "Describe the server.", _answer("the server", named[unseal.Status]), public=True),
        "/v1/openapi.json": _get("openapi", "This document.", _answer("OpenAPI 3.1", {"type": "object"}), public=True),
        "/v1/unseal": {"post": offer},
        "/v1/log/checkpoint": _get(
            "log-checkpoint", "The newest signed checkpoint (C2SP).", _answer("a note", _TEXT, "text/plain"), public=True
        ),
        "/v1/log/checkpoint/{size}": _get(
            "log-checkpoint-of-size",
            "The kept checkpoint of that size.",
            _answer("a note", _TEXT, "text/plain"),
            public=True,
            parameters=[_parameter("size", "path", _NUMBER)],
        ),
        "/v1/log/keys": _get("log-keys", "The keys that verify the log.", _answer("vkeys", vkeys), public=True),
    }


def _nodes(named: dict[Any, Any]) -> dict[str, Any]:
    live = _get("health-live", "Say that the process serves.", _answer("it does", named[Health]), public=True)
    ready = _get("health-ready", "Say whether requests should be sent here.", _answer("they should", named[Health]), public=True)
    ready["get"]["responses"]["503"] = _answer("why they should not", named[Health])
    stale = _get(
        "health-stale", "Say whether data can be asked for here, at least what is decrypted while the database is away.",
        _answer("it can", named[Health]), public=True,
    )  # fmt: skip
    stale["get"]["responses"]["503"] = _answer("why it cannot", named[Health])
    nonce = {
        "operationId": "node-unseal-nonce",
        "summary": "Give a node a nonce; its certificate says who it is.",
        "tags": ["server"],
        "security": [],
        "responses": {"200": _answer("a nonce", named[hand_on.NonceAnswer]), **_problems()},
    }
    unsealing = {
        "operationId": "node-unseal",
        "summary": "Hand the root key on to another node of this store; its certificate says who it is.",
        "tags": ["server"],
        "security": [],
        "requestBody": {"required": True, "content": {"application/json": {"schema": named[hand_on.HandOnRequest]}}},
        "responses": {"200": _answer("the key, for that node alone", named[hand_on.HandOnAnswer]), **_problems()},
    }
    return {
        "/v1/health/live": live,
        "/v1/health/ready": ready,
        "/v1/health/stale": stale,
        "/v1/node-unseal/nonce": {"post": nonce},
        "/v1/node-unseal": {"post": unsealing},
    }


def _logins(named: dict[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, (summary, request, answer) in document_ways(named).items():
        found[path] = {
            "post": {
                "operationId": "post-" + path.removeprefix("/v1/").replace("/", "-"),
                "summary": summary,
                "tags": ["login"],
                "security": [],
                "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
                "responses": {"200": _answer("done", answer), **_problems()},
            }
        }
    return found


_NUMBER = {"type": "integer", "minimum": 0, "maximum": 2**53}
_TILE = r"^(entries|[0-9]|[1-5][0-9]|6[0-3])/(x[0-9]{3}/)*[0-9]{3}(\.p/[1-9][0-9]{0,2})?$"


def _parameter(name: str, where: str, schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    return {"name": name, "in": where, "required": required, "schema": schema}


def _record(named: dict[Any, Any]) -> dict[str, Any]:
    sizes = {"type": "object", "properties": {"sizes": {"type": "array", "items": _NUMBER}}, "required": ["sizes"]}
    octets = _answer(
        "hashes, or entries behind their lengths", {"type": "string", "format": "binary"}, "application/octet-stream"
    )
    path = {**_parameter("path", "path", {"type": "string", "pattern": _TILE}), "description": "one string with its slashes"}
    event = _parameter("event", "path", {"type": "string", "minLength": 1})
    ends = [_parameter("from", "query", _NUMBER), _parameter("to", "query", _NUMBER)]
    receipt = _get(
        "audit-receipt", "An event's leaf and its inclusion proof.", _answer("a receipt", named[read_log.ReceiptAnswer]),
        public=False, parameters=[event],
    )  # fmt: skip
    receipt["get"]["responses"]["202"] = _answer("durable, and no place in the log yet", named[read_log.PromiseAnswer])
    return {
        "/v1/log/checkpoints": _get(
            "log-checkpoints", "The sizes of kept checkpoints.", _answer("sizes", sizes), public=False,
            parameters=[_parameter("after", "query", _NUMBER, required=False)],
        ),
        "/v1/log/tile/{path}": _get("log-tile", "A tile or entry bundle (C2SP).", octets, public=False, parameters=[path]),
        "/v1/audit/receipts/{event}": receipt,
        "/v1/audit/consistency": _get(
            "audit-consistency", "The proof that one log is the beginning of another.",
            _answer("a proof", named[read_log.ConsistencyAnswer]), public=False, parameters=ends,
        ),
    }  # fmt: skip
