"""The form of an approval's bundle, its request and its statements: read strictly, believed in nothing (spec/approvals.md)."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from typing import Any

from keyclave_verify.approval_proofs import unique
from keyclave_verify.report import Fault, Unusable

BUNDLE, REQUEST, STATEMENT = "keyclave/approval-bundle/1", "keyclave/approval-request/1", "keyclave/approval/1"
ENDS = {"executed": "approval-execute", "denied": "approval-deny", "withdrawn": "approval-withdraw"}
_HOUR = 3600 * 1_000_000  # microseconds
_NAMES = {"event", "format", "origin", "relying", "request", "status", "signatures", "requested", "ended", "items"}
_REQUEST_NAMES = {
    "expires_at", "format", "id", "items", "nonce", "operation", "reason", "requested_at", "requester", "rule", "tenant",
}  # fmt: skip


def read_bundle(raw: bytes, label: str) -> dict[str, Any]:
    """Return a bundle. Unusable for what is none, a fault for one whose form is broken."""
    try:
        bundle = json.loads(raw.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise Unusable(f"{label} is not a bundle: {error}") from None
    if not isinstance(bundle, dict) or bundle.get("format") != BUNDLE:
        raise Unusable(f"{label} is not a bundle of an approval (format {BUNDLE})")
    relying = bundle.get("relying")
    formed = (
        _NAMES - {"event"} <= set(bundle) <= _NAMES
        and isinstance(bundle["request"], str)
        and isinstance(bundle["signatures"], list)
        and isinstance(bundle["items"], list)
        and (bundle["status"] == "open" or bundle["status"] in ENDS)
        and isinstance(relying, dict)
        and set(relying) == {"id", "origins"}
        and isinstance(relying["origins"], list)
    )
    if not formed:
        raise Fault("request", "bundle_malformed", f"{label} does not have the form of a bundle")
    return bundle


def read_request(bundle: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the request and its hash, after checking its form."""
    text = bundle["request"]
    try:
        request = json.loads(text, object_pairs_hook=unique)
        rule = request["rule"]
        formed = (
            set(request) == _REQUEST_NAMES
            and request["format"] == REQUEST
            and set(rule) == {"assurance", "count", "hours", "roles"}
            and type(rule["assurance"]) is int
            and 1 <= rule["assurance"] <= 3
            and type(rule["count"]) is int
            and rule["count"] >= 1
            and type(rule["hours"]) is int
            and isinstance(rule["roles"], list)
            and rule["roles"]
            and isinstance(request["items"], list)
            and request["items"]
            and all(isinstance(item, dict) for item in request["items"])
            and all(type(request[name]) is int for name in ("requested_at", "expires_at"))
            and request["expires_at"] == request["requested_at"] + rule["hours"] * _HOUR
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Fault("request", "request_malformed", f"the request cannot be read: {error}") from None
    if not formed:
        raise Fault("request", "request_malformed", "the request does not have the form of one")
    return request, sha256(text.encode()).hexdigest()


def read_statement(signature: Any, request: dict[str, Any], digest: str) -> tuple[bytes, bytes, dict[str, Any]]:
    """Return the statement's bytes, the public key and what the statement says. ValueError unless it is for this request."""
    names = {"statement", "kind", "proof", "public", "receipt", "enrolment"}
    if not isinstance(signature, dict) or set(signature) != names or not isinstance(signature["proof"], dict):
        raise ValueError("it does not have the form of one")
    if signature["kind"] not in ("key", "passkey"):
        raise ValueError("it is of a kind that signs nothing")
    text = str(signature["statement"])
    said = json.loads(text, object_pairs_hook=unique)
    expected = {"decision": "approve", "format": STATEMENT, "request": digest, "tenant": request["tenant"]}
    if not isinstance(said, dict) or set(said) != {"approver", "at", "authenticator", *expected}:
        raise ValueError("its statement does not have the form of one")
    if json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False) != text or type(said["at"]) is not int:
        raise ValueError("its statement is not in canonical form")
    wrong = [name for name, value in expected.items() if said[name] != value]
    if wrong:
        raise ValueError(f"its statement is about another {wrong[0]}")
    return text.encode(), base64.b64decode(str(signature["public"]), validate=True), said
