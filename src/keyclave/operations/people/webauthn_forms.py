"""What browsers send and are sent for passkeys: the JSON of WebAuthn level 3, binary parts in base64url without padding."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from keyclave.identity.passkeys import ALGORITHMS
from keyclave.operations.forms import Answer
from keyclave.operations.people.ceremonies import SECONDS, challenge

if TYPE_CHECKING:
    from keyclave.operations.people.room import People
    from keyclave.store.access.people import Authenticator

_BASE64URL = r"^[A-Za-z0-9_-]*$(?!\n)"
Short = Annotated[str, Meta(min_length=1, max_length=1400, pattern=_BASE64URL)]  # a credential id: 1023 bytes at most
Long = Annotated[str, Meta(min_length=1, max_length=32_768, pattern=_BASE64URL)]


class AttestationResponse(msgspec.Struct, rename={"client_data": "clientDataJSON", "attestation_object": "attestationObject"}):
    """What a device answers when it made a passkey. Browsers add more, which is ignored."""

    client_data: Long
    attestation_object: Long


class AssertionResponse(
    msgspec.Struct,
    rename={"client_data": "clientDataJSON", "authenticator_data": "authenticatorData", "user_handle": "userHandle"},
):
    """What a device answers when it signs. Browsers add more, which is ignored."""

    client_data: Long
    authenticator_data: Long
    signature: Long
    user_handle: Annotated[str, Meta(max_length=128, pattern=_BASE64URL)] | None = None


class NewPasskey(msgspec.Struct, rename={"raw_id": "rawId"}):
    """`PublicKeyCredential.toJSON()` after `navigator.credentials.create()`."""

    id: Short
    raw_id: Short
    type: Annotated[str, Meta(max_length=32)]
    response: AttestationResponse


class PasskeyProof(msgspec.Struct, rename={"raw_id": "rawId"}):
    """`PublicKeyCredential.toJSON()` after `navigator.credentials.get()`."""

    id: Short
    raw_id: Short
    type: Annotated[str, Meta(max_length=32)]
    response: AssertionResponse


class PasskeyBegun(Answer, kw_only=True, rename={"public_key": "publicKey"}):
    """`publicKey` goes to `navigator.credentials.create()` or `.get()` (through `parseCreationOptionsFromJSON` and the like)."""

    ceremony: str
    public_key: dict[str, Any]


def to_plain(credential: NewPasskey | PasskeyProof) -> dict[str, Any]:
    """Return the credential as the identity room takes it."""
    plain: dict[str, Any] = msgspec.to_builtins(credential)
    return plain


def creation(people: People, ceremony: str, tenant: str, principal: str, enrolled: list[Authenticator]) -> PasskeyBegun:
    """Ask for a new passkey: verified user, one per device, findable without a name where the device can."""
    relying = people.relying
    options: dict[str, Any] = {
        "challenge": base64url(challenge(ceremony)),
        "rp": {"id": relying.id, "name": relying.name},
        "user": {"id": base64url(people.user_handle(tenant, principal)), "name": principal, "displayName": principal},
        "pubKeyCredParams": [{"type": "public-key", "alg": number} for number in ALGORITHMS],
        "timeout": SECONDS * 1000,
        "excludeCredentials": [_descriptor(one.handle) for one in enrolled if one.handle and one.revoked_at is None],
        "authenticatorSelection": {"residentKey": "preferred", "requireResidentKey": False, "userVerification": "required"},
        "attestation": relying.attestation,
    }
    return PasskeyBegun(ceremony=ceremony, public_key=options)


def assertion(people: People, ceremony: str, handles: list[bytes]) -> PasskeyBegun:
    """Ask for a proof with one of the passkeys named, or with any where none is."""
    options: dict[str, Any] = {
        "challenge": base64url(challenge(ceremony)),
        "rpId": people.relying.id,
        "timeout": SECONDS * 1000,
        "userVerification": "required",
        "allowCredentials": [_descriptor(handle) for handle in handles],
    }
    return PasskeyBegun(ceremony=ceremony, public_key=options)


def base64url(raw: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def from_base64url(text: str) -> bytes:
    """Return the bytes of base64url without padding; what is none gives no bytes, which name no passkey."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""


def _descriptor(handle: bytes | None) -> dict[str, str]:
    return {"type": "public-key", "id": base64url(handle or b"")}
