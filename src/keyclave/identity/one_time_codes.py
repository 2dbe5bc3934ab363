"""Time-based one-time codes (RFC 6238): six digits, half-minute steps, one step of drift either way. Each code counts once.

The seed's hash is SHA-1, which is what authenticator apps understand; HMAC does not need collision resistance (SP 800-131A).
"""

from __future__ import annotations

import base64

import pyotp

from keyclave.core.clock import MICROSECONDS

STEP = 30  # seconds
DIGITS = 6
SEED = 20  # bytes: as long as the hash (RFC 4226 section 4, R6)
_DRIFT = 1


def matching_step(seed: bytes, code: str, now: int) -> int | None:
    """Return the time step whose code this is, within the drift, or None. Whoever calls sees to it that a step counts once.

    Every step is compared, whichever matches: the time taken says nothing.
    """
    generator = pyotp.TOTP(_text(seed), digits=DIGITS, interval=STEP)
    current = now // MICROSECONDS // STEP
    found = None
    for step in range(current - _DRIFT, current + _DRIFT + 1):
        if pyotp.utils.strings_equal(generator.generate_otp(step), code):
            found = step
    return found


def enrolment_uri(seed: bytes, principal: str, issuer: str) -> str:
    """Return the `otpauth:` URI that an app reads from a QR code. It holds the seed: shown once, to its owner."""
    return pyotp.TOTP(_text(seed), digits=DIGITS, interval=STEP).provisioning_uri(name=principal, issuer_name=issuer)


def seed_text(seed: bytes) -> str:
    """Return the seed in base32, for typing."""
    return _text(seed)


def _text(seed: bytes) -> str:
    return base64.b32encode(seed).decode()
