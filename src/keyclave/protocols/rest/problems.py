"""Errors as HTTP says them (RFC 9457). The table is total over core.errors: a test holds it so."""

from __future__ import annotations

import math
import re

import msgspec

from keyclave.core.errors import KeyclaveError, LimitReached, Malformed

STATUS: dict[str, int] = {
    "malformed": 400,
    "too_large": 413,
    "unauthenticated": 401,
    "refused": 403,
    "assurance_required": 403,
    "step_up_required": 403,
    "approval_required": 403,
    "separation_of_duties": 409,
    "unknown": 404,
    "wrong_state": 409,
    "conflict": 409,
    "stale_revision": 412,
    "idempotency_reuse": 422,
    "undecipherable": 400,
    "invalid_signature": 400,
    "limit_reached": 429,
    "sealed": 503,
    "unavailable": 503,
    "broken": 500,
    "error": 500,
}

_TITLE: dict[int, str] = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Refused",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    412: "Precondition failed",
    413: "Too large",
    422: "Unprocessable",
    429: "Too many",
    500: "Server fault",
    503: "Unavailable",
}

CONTENT_TYPE = b"application/problem+json"


class Problem(msgspec.Struct, omit_defaults=True):
    """The body of an error answer."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    hint: str = ""
    event: str = ""


_encode = msgspec.json.Encoder().encode
_UNKNOWN = re.compile(r"unknown field `.*?`(?= |$)", re.DOTALL)  # a secret may stand where a name should
_QUOTED = re.compile(r" value '.*?'(?= |$)", re.DOTALL)


def problem(error: KeyclaveError, event: str = "", status: int = 0) -> tuple[int, bytes]:
    """Return status and body for an error; `status` where the protocol knows better than the table."""
    status = status or STATUS[error.code]
    body = Problem(f"urn:keyclave:error:{error.code}", _TITLE[status], status, error.code, error.detail, error.hint, event)
    return status, _encode(body)


def retry_after(error: KeyclaveError) -> int:
    """Return after how many whole seconds it is worth trying again (RFC 9110 section 10.2.3)."""
    return max(1, math.ceil(error.wait)) if isinstance(error, LimitReached) else 1


def malformed(fault: msgspec.DecodeError | msgspec.ValidationError | UnicodeDecodeError) -> Malformed:
    """Return what is wrong with a body, without repeating a value of it: it may be a secret in the wrong place."""
    if isinstance(fault, UnicodeDecodeError):
        return Malformed("the request is not UTF-8", "encode it as UTF-8")
    text = _UNKNOWN.sub("unknown field", _QUOTED.sub(" value", str(fault)))[:200]
    return Malformed(f"the request does not have the form of this operation: {text}", "see /v1/openapi.json")
