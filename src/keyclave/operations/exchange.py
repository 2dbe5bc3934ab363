"""Private-key operations that end in a secret: RSA-OAEP decryption, ECDH, ML-KEM encapsulation and decapsulation.

Their ciphertexts are made by others with the public key, so no envelope of ours stands around them. An ECDH result is never
handed out raw: it goes through the SP 800-56C two-step extraction first, bound to both public keys and the caller's label.
"""

from __future__ import annotations

from keyclave.core.canonical import canonical
from keyclave.crypto.disclosure import disclose
from keyclave.crypto.public import from_pem
from keyclave.crypto.suites import Purpose
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.fields import from_base64, to_base64
from keyclave.operations.forms import Answer, Base64, Number, Request, Text
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.sealing import account
from keyclave.operations.sign import handle_of

_LONGEST = 8192


class OpenRequest(Request, kw_only=True):
    """An RSA-OAEP (SHA-256) ciphertext made with the public key. `version` omitted: the primary one."""

    ciphertext: Base64
    version: Number | None = None


class OpenAnswer(Answer, kw_only=True):
    """What was inside."""

    plaintext: Base64
    key: str
    version: int


class AgreeRequest(Request, kw_only=True):
    """The other side's public key (PEM, same curve) and a label that both sides use."""

    peer_public_key: str
    label: Text
    version: Number | None = None


class SecretAnswer(Answer, kw_only=True):
    """A shared secret of 32 bytes."""

    shared_secret: Base64
    key: str
    version: int


class EncapsulateRequest(Request, kw_only=True):
    """Encapsulate to the public half of the key's primary version."""


class EncapsulateAnswer(Answer, kw_only=True):
    """The secret, and the ciphertext from which the holder of the private half gets it too."""

    shared_secret: Base64
    ciphertext: Base64
    key: str
    version: int


class DecapsulateRequest(Request, kw_only=True):
    """A ciphertext of `encapsulate`."""

    ciphertext: Base64
    version: Number | None = None


def open_public(desk: Desk, attempt: Attempt, key: LoadedKey, request: OpenRequest) -> OpenAnswer:
    """Decrypt what was encrypted to the public key."""
    ciphertext = from_base64(request.ciphertext, _LONGEST, "ciphertext")
    handle = handle_of(desk, attempt, key, Purpose.DECRYPT, request.version)
    with desk.module.decrypt_private(handle.slot, handle.spec, ciphertext) as plaintext:
        return OpenAnswer(plaintext=disclose(plaintext), key=handle.key_id, version=handle.number)


def agree(desk: Desk, attempt: Attempt, key: LoadedKey, request: AgreeRequest) -> SecretAnswer:
    """Agree on a secret with the holder of another key pair."""
    peer = from_pem(request.peer_public_key)
    handle = handle_of(desk, attempt, key, Purpose.AGREE, request.version)
    with desk.module.agree(handle.slot, handle.spec, peer) as raw:
        both = sorted((peer, handle.public or b""))
        info = canonical("keyclave/shared-secret/1", *both, request.label)
        with desk.module.derive(raw, info, 32) as secret:
            return SecretAnswer(shared_secret=disclose(secret), key=handle.key_id, version=handle.number)


def encapsulate(desk: Desk, attempt: Attempt, key: LoadedKey, _request: EncapsulateRequest) -> EncapsulateAnswer:
    """Make a secret for the holder of the private half."""
    handle = desk.keyring.protecting(key, Purpose.ENCAPSULATE, attempt.at)
    attempt.version = handle.number
    account(attempt, handle)
    secret, ciphertext = desk.module.encapsulate(handle.public or b"", handle.spec)
    with secret:
        return EncapsulateAnswer(
            shared_secret=disclose(secret), ciphertext=to_base64(ciphertext), key=handle.key_id, version=handle.number
        )


def decapsulate(desk: Desk, attempt: Attempt, key: LoadedKey, request: DecapsulateRequest) -> SecretAnswer:
    """Get the secret out of an encapsulation."""
    ciphertext = from_base64(request.ciphertext, _LONGEST, "ciphertext")
    handle = handle_of(desk, attempt, key, Purpose.ENCAPSULATE, request.version)
    with desk.module.decapsulate(handle.slot, handle.spec, ciphertext) as secret:
        return SecretAnswer(shared_secret=disclose(secret), key=handle.key_id, version=handle.number)
