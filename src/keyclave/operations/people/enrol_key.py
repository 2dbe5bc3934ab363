"""authenticator-begin and authenticator-enrol with a key of one's own: ECDSA, in a file, a smart card or a module.

It signs approvals on the command line. What is signed to enrol it is a statement of its own form, so a signature for one
purpose is never one for another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core.errors import InvalidSignature, Refused
from keyclave.crypto.public import from_pem
from keyclave.crypto.signatures import check_ecdsa_key, verify_ecdsa
from keyclave.operations.attempt import Attempt
from keyclave.operations.fields import from_base64
from keyclave.operations.forms import Answer, Base64, Empty, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.people.enrolment import (
    AuthenticatorView,
    Ceremony,
    Label,
    check_may_enrol,
    check_same_caller,
    keep,
    new_authenticator,
    view,
)

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

KIND = "enrol-key"
FORMAT = "keyclave/enrol-key/1"
_PROOF = 256  # bytes of a DER signature, at most


class KeyBegun(Answer, kw_only=True):
    """`statement` is the text to be signed, byte for byte."""

    ceremony: str
    statement: str


class EnrolKey(Request, kw_only=True):
    """The public key (PEM, P-256 or P-384) and its DER signature over the statement: SHA-256 with P-256, SHA-384 with P-384."""

    ceremony: Ceremony
    public_key: Annotated[str, Meta(max_length=8192)]
    proof: Base64
    label: Label = ""


def begin(desk: Desk, attempt: Attempt, _key: LoadedKey | None, _request: Empty) -> KeyBegun:
    """Begin: a statement to be signed with the key."""
    check_may_enrol(desk, attempt, "key")
    caller = attempt.caller
    named = {"tenant": caller.tenant, "principal": caller.principal, "subject": caller.id}
    ceremony = desk.people.ceremonies.begin(KIND, attempt.at, **named)
    return KeyBegun(ceremony=ceremony, statement=statement(ceremony, caller.principal, caller.tenant))


def finish(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: EnrolKey) -> Callable[[Connection], AuthenticatorView]:
    """Finish: check that whoever enrols the key holds it, and keep its public half."""
    check_may_enrol(desk, attempt, "key")
    said = desk.people.ceremonies.read(request.ceremony, KIND, attempt.at)
    check_same_caller(attempt, said)
    public = from_pem(request.public_key)
    check_ecdsa_key(public)
    signed = statement(request.ceremony, said.principal, said.tenant).encode()
    try:
        verify_ecdsa(public, signed, from_base64(request.proof, _PROOF, "the proof"))
    except InvalidSignature:
        raise Refused("the proof is not a signature of this key over the statement", "sign the statement byte for byte") from None
    key = new_authenticator(desk, attempt, "key", request.label, 2, public=public)

    def change(transaction: Connection) -> AuthenticatorView:
        desk.people.ceremonies.spend(transaction, request.ceremony, said, attempt.at)
        keep(transaction, attempt, key)
        return view(key)

    return change


def statement(ceremony: str, principal: str, tenant: str) -> str:
    """Return what a key signs to be enrolled: canonical JSON (RFC 8785)."""
    said = {"ceremony": ceremony, "format": FORMAT, "principal": principal, "tenant": tenant}
    return msgspec.json.encode(said, order="sorted").decode()
