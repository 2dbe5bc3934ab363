"""Passkeys: what must hold of a WebAuthn registration and assertion before it counts (W3C WebAuthn level 3, sections 7.1 and
7.2).

The library checks type, challenge, origin, relying party, presence, verification, algorithm, attestation statement and
signature. Here is what it leaves to us: backup flags, other origins' frames, counters that go back, attestation that must name a
known model, and that a refusal says nothing a thief could use.

The library is imported where it is called: it takes a seventh of the time that starting takes (see `keyclave.app.settling`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from keyclave.core.errors import Refused
from keyclave.crypto.attestation import attested_model

ES256, EDDSA, RS256 = -7, -8, -257
ALGORITHMS = (ES256, EDDSA, RS256)  # COSE numbers (RFC 9053), in the order of preference
LONGEST_HANDLE = 1023  # bytes of a credential id (WebAuthn section 4)


class Relying(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for passkeys: the relying party's id and name, the origins whose pages may, and what is asked of the devices.

    `attestation`: `none`, or `direct` where a device must prove to be of a model in `aaguids` (all models where it is empty) by a
    certificate under `roots` (PEM). `secret` hides which principals exist.
    """

    id: str
    name: str
    origins: tuple[str, ...]
    attestation: str = "none"
    aaguids: frozenset[str] = frozenset()
    roots: tuple[bytes, ...] = ()


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """A passkey that was made: `public` is its COSE key."""

    handle: bytes
    public: bytes
    sign_count: int
    aaguid: str
    backup_eligible: bool

    @property
    def aal(self) -> int:
        """What it can prove: a key that may be copied to other devices is never level 3 (SP 800-63B-4 section 2.3.1)."""
        return 2 if self.backup_eligible else 3


class Asserted(msgspec.Struct, frozen=True, kw_only=True):
    """What an assertion proved. `regressed`: the signature is right, yet the counter went back: there may be a copy."""

    sign_count: int
    regressed: bool


def verify_registration(relying: Relying, credential: Mapping[str, Any], challenge: bytes) -> Registered:
    """Return the new passkey, or raise `Refused`."""
    from webauthn import verify_registration_response
    from webauthn.helpers.cose import COSEAlgorithmIdentifier
    from webauthn.helpers.structs import AttestationFormat

    roots = {form: list(relying.roots) for form in AttestationFormat} if relying.roots else None
    try:
        _check_client(credential)
        made = verify_registration_response(
            credential=dict(credential),
            expected_challenge=challenge,
            expected_rp_id=relying.id,
            expected_origin=list(relying.origins),
            require_user_verification=True,
            supported_pub_key_algs=[COSEAlgorithmIdentifier(number) for number in ALGORITHMS],
            pem_root_certs_bytes_by_fmt=roots,
        )
        handle = made.credential_id
        if relying.attestation == "direct":
            _check_attestation(relying, made.attestation_object, made.aaguid)
    except Exception as fault:  # the library raises many kinds for bytes that are not what they should be
        raise refused("the passkey was not accepted", fault) from None
    if len(handle) > LONGEST_HANDLE:
        raise refused("the passkey was not accepted", None)
    synced = made.credential_device_type.value == "multi_device"
    return Registered(
        handle=handle, public=made.credential_public_key, sign_count=made.sign_count, aaguid=made.aaguid, backup_eligible=synced
    )


def verify_assertion(
    relying: Relying,
    credential: Mapping[str, Any],
    challenge: bytes,
    *,
    public: bytes,
    sign_count: int,
    backup_eligible: bool,
    user_handle: bytes | None = None,
) -> Asserted:
    """Return what an assertion of the passkey with this COSE key proves, or raise `Refused`.

    `sign_count` and `backup_eligible` are what is known of the passkey; `user_handle`, where given, is what the assertion's
    must be if it has one. Whoever calls refuses `regressed`.
    """
    from webauthn import verify_authentication_response
    from webauthn.helpers import base64url_to_bytes

    try:
        _check_client(credential)
        done = verify_authentication_response(
            credential=dict(credential),
            expected_challenge=challenge,
            expected_rp_id=relying.id,
            expected_origin=list(relying.origins),
            credential_public_key=public,
            credential_current_sign_count=0,  # compared below, once the signature is known to be right
            require_user_verification=True,
        )
        if (done.credential_device_type.value == "multi_device") is not backup_eligible:
            raise ValueError("whether it can be copied never changes (WebAuthn section 6.1.3)")
        handle = credential["response"].get("userHandle")
        if handle and user_handle is not None and base64url_to_bytes(handle) != user_handle:
            raise ValueError("the assertion is for another user")
    except Exception as fault:
        raise refused("the passkey was not accepted", fault) from None
    count = done.new_sign_count
    return Asserted(sign_count=count, regressed=(count > 0 or sign_count > 0) and count <= sign_count)


def _check_client(credential: Mapping[str, Any]) -> None:
    """Refuse what a page inside another origin's frame asked for: somebody may not see what they confirm (clickjacking)."""
    from webauthn.helpers import base64url_to_bytes

    said = json.loads(base64url_to_bytes(credential["response"]["clientDataJSON"]))
    if said.get("crossOrigin") or said.get("topOrigin"):
        raise ValueError("asked from another origin's frame")


def _check_attestation(relying: Relying, attestation_object: bytes, aaguid: str) -> None:
    """Refuse a device that does not prove by certificate which model it is, or is of a model that is not allowed."""
    from webauthn.helpers import parse_authenticator_data, parse_cbor

    stated = parse_cbor(attestation_object)
    if stated["fmt"] not in ("packed", "tpm"):  # of others the library brings roots of its own along
        raise ValueError("the device's statement is of a kind that is not taken")
    chain = stated["attStmt"].get("x5c")
    if not chain or not relying.roots:
        raise ValueError("the device shows no certificate")
    named = attested_model(chain[0])  # the library does not compare it with the AAGUID (WebAuthn section 8.2)
    if named is not None and named != parse_authenticator_data(stated["authData"]).attested_credential_data.aaguid:  # type: ignore[union-attr]
        raise ValueError("the certificate is of another model")
    if relying.aaguids and aaguid not in relying.aaguids:
        raise ValueError("the model is not allowed")


def refused(why: str, fault: Exception | None) -> Refused:
    """Return the one refusal. What was wrong helps whoever forges more than whoever errs: it stays in the exception's notes."""
    error = Refused(why, "use a passkey that is enrolled for this server, on its own pages, and confirm with PIN or fingerprint")
    if fault is not None:
        error.add_note(f"{type(fault).__name__}: {fault}")
    return error
