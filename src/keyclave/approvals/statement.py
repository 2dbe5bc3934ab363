"""What an approver signs: one line of canonical JSON that names who approves which request hash, with which authenticator, when.

    {"approver","at","authenticator","decision":"approve","format":"keyclave/approval/1","request":"<sha256 hex>","tenant"}

An enrolled ECDSA key signs these bytes; a passkey signs them through the WebAuthn challenge, which is their SHA-256. The
request's hash holds the request's id, so a statement is good for one request of one tenant, by one person.
"""

from __future__ import annotations

import msgspec

from keyclave.core.canonical_json import canonical_json
from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import Malformed, Refused
from keyclave.crypto.digest import sha256

FORMAT = "keyclave/approval/1"
APPROVE = "approve"
LONGEST = 2048  # bytes
OFF = 300 * MICROSECONDS  # how far the time in a statement may be from the server's


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`request` is the hex SHA-256 of the canonical request; `at` in microseconds."""

    approver: str
    at: int
    authenticator: str
    decision: str = APPROVE
    format: str = FORMAT
    request: str
    tenant: str

    def encode(self) -> bytes:
        """Return the bytes that are signed."""
        return canonical_json(msgspec.to_builtins(self))


def challenge(statement: bytes) -> bytes:
    """Return the WebAuthn challenge of a statement."""
    return sha256(statement)


def read_statement(text: str) -> Statement:
    """Read a statement strictly. Malformed unless it is, byte for byte, what `encode` would write."""
    try:
        if len(text) > LONGEST:
            raise ValueError
        statement = msgspec.json.decode(text, type=Statement)
        if (statement.decision, statement.format) != (APPROVE, FORMAT) or statement.encode() != text.encode():
            raise ValueError
    except (ValueError, msgspec.MsgspecError):
        raise Malformed(
            "this is no statement of approval in canonical form", "sign the statement as the server gives it, byte for byte"
        ) from None
    return statement


def check_statement(statement: Statement, expected: Statement) -> None:
    """Refuse a statement of somebody else, for another request, tenant or authenticator, or of another time."""
    if msgspec.structs.replace(statement, at=expected.at) != expected:
        raise Refused("the statement is not about this request, approver and authenticator", "sign what this request says")
    if abs(statement.at - expected.at) > OFF:
        raise Refused("the statement is dated more than five minutes from now", "ask for a new statement and sign it")
