"""Threshold shares: a secret cut so that any M of N pieces give it back and M - 1 tell nothing (spec/shares.md).

Shamir's scheme ("How to share a secret", 1979) over GF(2^8), each byte with a polynomial of its own. Multiplication is by
shifting, without tables and branches: a table look-up by a secret shows in the cache. A share's text carries its set,
threshold, number and a checksum, so a typing error is named before anything is combined; the key-check value of the set refuses
a wrong combination before anything is opened with it. Shamir's scheme is no approved algorithm: where FIPS counts, a share
leaves only as a protected file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from keyclave.core.errors import Malformed
from keyclave.crypto import share_text
from keyclave.crypto.arena import Slot
from keyclave.crypto.digest import same
from keyclave.crypto.module import CryptoModule

MOST = 16
LONGEST = 64  # bytes of a secret to share
_VERSION = 1
_SET = 4
_HEAD = 1 + _SET + 2  # version, set, threshold, index


def multiply(a: int, b: int) -> int:
    """Multiply in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1, in the same steps whatever the values."""
    product = 0
    for _ in range(8):
        product ^= a * (b & 1)
        b >>= 1
        a = (a << 1) ^ (0x11B * (a >> 7))
    return product


def _inverse(a: int) -> int:
    """Return a^254, which is 1/a for a other than 0 (the field has 255 units)."""
    result = a
    for _ in range(6):
        result = multiply(multiply(result, result), a)  # a^3, a^7, ... a^127
    return multiply(result, result)


class Share:
    """One piece. Its bytes are in locked memory and do not print."""

    __slots__ = ("_value", "index", "set_id", "threshold")

    def __init__(self, set_id: bytes, threshold: int, index: int, value: Slot) -> None:
        self.set_id = set_id
        self.threshold = threshold
        self.index = index
        self._value = value

    def view(self) -> memoryview:
        """Return the bytes in place: only for this room."""
        return self._value.view()

    def wipe(self) -> None:
        """Overwrite the bytes."""
        self._value.wipe()

    def __repr__(self) -> str:
        return f"<Share {self.index} of set {self.set_id.hex()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a share is not copied or pickled")

    def to_text(self) -> str:
        """Return the share as a custodian keeps it."""
        body = bytearray((_VERSION, *self.set_id, self.threshold, self.index))
        body += self.view()
        text = share_text.to_text(body)
        body[:] = bytes(len(body))
        return text

    @classmethod
    def from_text(cls, text: str) -> Share:
        """Read a share; letter case, spaces, dashes and O/0, I/L/1 do not matter. Anything else that is wrong is said."""
        body = share_text.from_text(text)
        try:
            length = len(body) - _HEAD
            if body[0] != _VERSION:
                raise Malformed(f"this share is of version {body[0]}, which is not known here", "use a newer Keyclave")
            if not (1 <= length <= LONGEST and 1 <= body[5] <= MOST and 1 <= body[6] <= MOST):
                raise Malformed("this is not a share that Keyclave makes", "use the share that was given out at the ceremony")
            value = Slot(length)
            value.view()[:] = memoryview(body)[_HEAD:]
            return cls(bytes(body[1:5]), body[5], body[6], value)
        finally:
            body[:] = bytes(len(body))


@dataclass(frozen=True)
class ShareSet:
    """All pieces of one secret, and the key-check value that tells the secret again."""

    set_id: bytes
    check: str
    shares: list[Share]

    def wipe(self) -> None:
        """Overwrite every share, once they are handed over."""
        for share in self.shares:
            share.wipe()


def split(module: CryptoModule, secret: Slot, threshold: int, count: int, *, development: bool = False) -> ShareSet:
    """Cut `secret` into `count` shares of which `threshold` give it back. One of one is for development only."""
    if not (2 <= threshold <= count <= MOST or (development and threshold == count == 1)):
        raise Malformed(
            f"{threshold} of {count} shares are not possible",
            f"choose at least 2, and at most {MOST}, of which all or fewer are needed",
        )
    if len(secret) > LONGEST:
        raise Malformed(f"a secret of {len(secret)} bytes is too long to share", f"share a key of up to {LONGEST} bytes")
    set_id = module.random(_SET)
    values = [Slot(len(secret)) for _ in range(count)]
    degree = threshold - 1
    with module.random_slot(max(1, len(secret) * degree)) as coefficients:
        drawn = coefficients.view()
        for position, byte in enumerate(secret.view()):
            row = drawn[position * degree : (position + 1) * degree]
            for index, value in enumerate(values, 1):
                value.view()[position] = _evaluate(byte, row, index)
    shares = [Share(set_id, threshold, index, value) for index, value in enumerate(values, 1)]
    return ShareSet(set_id, module.key_check(secret), shares)


def _evaluate(constant: int, coefficients: memoryview, x: int) -> int:
    """Return the polynomial at x (Horner)."""
    result = 0
    for coefficient in reversed(coefficients):
        result = multiply(result ^ coefficient, x)
    return result ^ constant


def combine(shares: Sequence[Share], expected_check: str, module: CryptoModule) -> Slot:
    """Give the secret back, or say what is missing. A result that is not the secret is never returned."""
    _require_fitting(shares)
    used = shares[: shares[0].threshold]
    indices = [share.index for share in used]
    secret = Slot(len(used[0].view()))
    out = secret.view()
    for share in used:
        weight = _weight(share.index, indices)
        for position, byte in enumerate(share.view()):
            out[position] ^= multiply(byte, weight)
    if not same(module.key_check(secret).encode(), expected_check.encode()):
        secret.wipe()
        raise Malformed("these shares do not give the key of this server", "one of them is of another server or was altered")
    return secret


def _require_fitting(shares: Sequence[Share]) -> None:
    if not shares:
        raise Malformed("there is no share", "give one")
    first = shares[0]
    if any((s.set_id, s.threshold, len(s.view())) != (first.set_id, first.threshold, len(first.view())) for s in shares):
        raise Malformed("these shares are of different sets", "collect the shares of one ceremony")
    if len({s.index for s in shares}) != len(shares):
        raise Malformed("one share is there twice", "another custodian gives another one")
    missing = first.threshold - len(shares)
    if missing > 0:
        raise Malformed(f"{missing} more share{'s are' if missing > 1 else ' is'} needed", "ask the next custodian")


def _weight(index: int, indices: list[int]) -> int:
    """Return Lagrange's coefficient at 0."""
    weight = 1
    for other in indices:
        if other != index:
            weight = multiply(weight, multiply(other, _inverse(other ^ index)))
    return weight
