"""The requester's own signature under a bundle: an enrolled ECDSA key says which bundle becomes which revision of which tenant.

Approvers sign the whole request; this says that the file in version control and what is applied are one, made by whoever asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import rfc8785
from msgspec import Meta

from keyclave.core.errors import InvalidSignature, Refused
from keyclave.crypto.signatures import verify_ecdsa
from keyclave.operations.attempt import Attempt
from keyclave.operations.fields import from_base64
from keyclave.operations.forms import Base64, Request
from keyclave.store.access.people import read_authenticator

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

FORMAT = "keyclave/policy-apply/1"
_LONGEST = 256  # bytes of a DER signature, at most


class BundleSignature(Request, kw_only=True):
    """`signature`: DER, by an enrolled key of the requester, over `statement`: SHA-256 with P-256, SHA-384 with P-384."""

    authenticator: Annotated[str, Meta(max_length=40)]
    signature: Base64


def statement(tenant: str, digest: bytes, revision: int) -> bytes:
    """Return what is signed: canonical JSON (RFC 8785)."""
    said: dict[str, Any] = {"bundle": digest.hex(), "format": FORMAT, "revision": revision, "tenant": tenant}
    return rfc8785.dumps(said)


def decoded(signed: BundleSignature | None) -> bytes:
    """Return the bytes of a signature, if there is one. `Malformed` before anything else is looked at."""
    return b"" if signed is None else from_base64(signed.signature, _LONGEST, "signature")


def check_signature(
    desk: Desk, attempt: Attempt, digest: bytes, revision: int, signed: BundleSignature | None, signature: bytes
) -> None:
    """Refuse a signature that is not the requester's own over this bundle; none at all, unless an approval stands for it."""
    caller = attempt.caller
    if signed is None:
        if not attempt.approval:
            raise Refused(
                "a policy is applied with an approval, or signed", "ask for approval: `keyclave policy apply DIR --request`"
            )
        return
    found = desk.store.read(lambda conn: read_authenticator(conn, caller.tenant, signed.authenticator))
    if (
        found is None
        or found.principal != caller.principal
        or found.kind != "key"
        or found.revoked_at is not None
        or found.public is None
    ):
        raise Refused("the signature names no live key of yours", "see `keyclave authenticator list`; enrol a key first")
    try:
        verify_ecdsa(found.public, statement(caller.tenant, digest, revision), signature)
    except InvalidSignature:
        raise Refused(
            "the signature is not over this bundle and revision", "sign it again: `keyclave policy apply --key`"
        ) from None
