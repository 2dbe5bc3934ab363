"""The form of an approval's bundle, its request and its statements: read strictly, believed in nothing (spec/approvals.md)."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from keyclave_verify.reading import decode_base64, fits, read_json, read_text
from keyclave_verify.report import Fault, Unusable

BUNDLE, REQUEST, STATEMENT = "keyclave/approval-bundle/1", "keyclave/approval-request/1", "keyclave/approval/1"
ENDS = {"executed": "approval-execute", "denied": "approval-deny", "withdrawn": "approval-withdraw"}
_HOUR = 3600 * 1_000_000  # microseconds
_SIGNATURE = {"statement": str, "kind": str, "proof": dict, "public": str, "receipt": object, "enrolment": object}
_BUNDLE = {
    "event?": object, "format": str, "origin": str, "relying": {"id": str, "origins": [str]}, "request": str, "status": str,
    "signatures": [_SIGNATURE], "requested": object, "ended": object, "items": [object],
}  # fmt: skip
_ITEM = {"if_match?": int, "label?": str, "ref?": str, "request?": dict}
_REQUEST = {
    "expires_at": int, "format": str, "id": str, "items": [_ITEM], "nonce": str, "operation": str, "reason": str,
    "requested_at": int, "requester": str, "rule": {"assurance": int, "count": int, "hours": int, "roles": [str]}, "tenant": str,
}  # fmt: skip
_STATEMENT = {"approver": str, "at": int, "authenticator": str, "decision": str, "format": str, "request": str, "tenant": str}


def read_bundle(raw: bytes, label: str, origin: str) -> dict[str, Any]:
    """Return a bundle of the log `origin`. Unusable for what is none, a fault for one whose form is broken."""
    try:
        bundle = read_json(read_text(raw))
    except ValueError as error:
        raise Unusable(f"{label} is not a bundle: {error}") from None
    if not isinstance(bundle, dict) or bundle.get("format") != BUNDLE:
        raise Unusable(f"{label} is not a bundle of an approval (format {BUNDLE}): `keyclave approval export` writes one")
    if not fits(bundle, _BUNDLE) or bundle["status"] not in ("open", *ENDS):
        raise Fault("request", "bundle_malformed", f"{label} does not have the form of a bundle")
    if bundle["origin"] != origin:
        raise Fault("request", "wrong_log", f"{label} is of the log {bundle['origin']!r}, not of {origin!r}")
    return bundle


def read_request(bundle: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the request and its hash, after checking its form."""
    text = bundle["request"]
    try:
        request = read_json(text)
    except ValueError as error:
        raise Fault("request", "request_malformed", f"the request cannot be read: {error}") from None
    if not fits(request, _REQUEST) or request["format"] != REQUEST or not request["items"] or not _holds(request):
        raise Fault("request", "request_malformed", "the request does not have the form of one")
    return request, sha256(text.encode()).hexdigest()


def _holds(request: dict[str, Any]) -> bool:
    """Tell whether a request's rule can be met, and fits its window."""
    rule, window = request["rule"], request["expires_at"] - request["requested_at"]
    return 1 <= rule["assurance"] <= 3 and rule["count"] >= 1 and bool(rule["roles"] and window == rule["hours"] * _HOUR)


def read_statement(signature: dict[str, Any], request: dict[str, Any], digest: str) -> tuple[bytes, bytes, dict[str, Any]]:
    """Return the statement's bytes, the public key and what the statement says. ValueError unless it is for this request."""
    if signature["kind"] not in ("key", "passkey"):
        raise ValueError("it is of a kind that signs nothing")
    text = signature["statement"]
    said = read_json(text)
    if not fits(said, _STATEMENT):
        raise ValueError("its statement does not have the form of one")
    if json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False) != text:
        raise ValueError("its statement is not in canonical form")
    expected = {"decision": "approve", "format": STATEMENT, "request": digest, "tenant": request["tenant"]}
    wrong = [name for name, value in expected.items() if said[name] != value]
    if wrong:
        raise ValueError(f"its statement is about another {wrong[0]}")
    return text.encode(), decode_base64(signature["public"]), said
