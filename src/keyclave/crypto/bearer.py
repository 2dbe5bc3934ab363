"""Bearer tokens: 256 random bits for the caller, their SHA-256 for the store. A stolen database opens nothing."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from keyclave.crypto.digest import sha256

if TYPE_CHECKING:
    from keyclave.crypto.module import CryptoModule

PREFIX = "kct_"  # so that a token in the wrong place can be found by a scanner
SESSION = "kcs_"
INVITATION = "kci_"
DEVICE = "kcd_"  # of a machine that waits for a login
ENROLMENT = "kce_"


def new_token(module: CryptoModule, prefix: str = PREFIX) -> tuple[str, bytes]:
    """Return a fresh token (the prefix and 43 characters of base64url) and its digest (32 bytes)."""
    text = prefix + base64.urlsafe_b64encode(module.random(32)).decode().rstrip("=")
    return text, sha256(text.encode())


def token_digest(token: bytes) -> bytes:
    """Return the digest under which a presented token is looked up."""
    return sha256(token)
