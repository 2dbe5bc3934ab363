"""Threshold shares: a secret cut so that any M of N pieces give it back and M - 1 tell nothing (spec/shares.md).

Shamir's scheme over GF(2^8), each byte with a polynomial of its own. Multiplication is by shifting, without tables: a table
look-up
by a secret shows in the cache. A share's text carries its set, threshold, number and a checksum, so a typing error is named
before anything is combined; the key-check value of the set refuses a wrong combination before anything is opened with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from keyclave.core.errors import Malformed
from keyclave.crypto.arena import Slot, slot_from
from keyclave.crypto.digest import same, sha256
from keyclave.crypto.module import CryptoModule

MOST = 16
_PREFIX = "kcs1-"
_VERSION = 1
_SET = 4
_HEAD = 1 + _SET + 2  # version, set, threshold, index
_SUM = 4
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LOOKALIKE = str.maketrans({"O": "0", "I": "1", "L": "1"})


def multiply(a: int, b: int) -> int:
    """Multiply in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1, in the same steps whatever the values."""
    product = 0
    for _ in range(8):
        product ^= a * (b & 1)
        b >>= 1
        a = (a << 1) ^ (0x11B * (a >> 7))
    return product


def _inverse(a: int) -> int:
    """Return a^254, which is 1/a for a other than 0."""
    result = 1
    for _ in range(254):
        result = multiply(result, a)
    return result


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

    def to_text(self) -> str:
        """Return the share as a custodian keeps it."""
        raw = bytearray((_VERSION, *self.set_id, self.threshold, self.index))
        raw += self.view()
        raw += _checksum(raw)
        digits = _to_digits(raw)
        raw[:] = bytes(len(raw))
        return _PREFIX + "-".join(digits[i : i + 5] for i in range(0, len(digits), 5))

    @classmethod
    def from_text(cls, text: str) -> Share:
        """Read a share; letter case, spaces, dashes and O/0, I/L/1 do not matter. Anything else that is wrong is said."""
        compact = re.sub(r"[\s-]", "", text)
        if compact[:4].lower() != _PREFIX[:4]:
            raise Malformed("this is not a share", "a share begins with kcs1-")
        raw = _from_digits(compact[4:].upper().translate(_LOOKALIKE))
        if len(raw) < _HEAD + 1 + _SUM or not same(_checksum(raw[:-_SUM]), bytes(raw[-_SUM:])):
            raise Malformed("this share has a typing error or is incomplete", "compare it with the paper, group by group")
        version, threshold, index = raw[0], raw[5], raw[6]
        if version != _VERSION or not 1 <= threshold <= MOST or not 1 <= index <= MOST:
            raise Malformed("this share is of a kind not known here", "use a newer Keyclave")
        share = cls(bytes(raw[1:5]), threshold, index, slot_from(raw[_HEAD:-_SUM]))
        raw[:] = bytes(len(raw))
        return share


@dataclass(frozen=True)
class ShareSet:
    """All pieces of one secret, and the key-check value that tells the secret again."""

    set_id: bytes
    check: str
    shares: list[Share]


def split(module: CryptoModule, secret: Slot, threshold: int, count: int, *, development: bool = False) -> ShareSet:
    """Cut `secret` into `count` shares of which `threshold` give it back. One of one is for development only."""
    if not (2 <= threshold <= count <= MOST or (development and threshold == count == 1)):
        raise Malformed(f"{threshold} of {count} shares", f"at least 2 are needed, of at most {MOST}")
    set_id = module.random(_SET)
    values = [Slot(len(secret)) for _ in range(count)]
    with module.random_slot(max(1, len(secret) * (threshold - 1))) as coefficients:
        for position, byte in enumerate(secret.view()):
            row = coefficients.view()[position * (threshold - 1) : (position + 1) * (threshold - 1)]
            for index, value in enumerate(values, 1):
                value.view()[position] = _evaluate(byte, row, index)
            row.release()
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
    if not shares:
        raise Malformed("there is no share", "give one")
    first = shares[0]
    if any((s.set_id, s.threshold) != (first.set_id, first.threshold) for s in shares):
        raise Malformed("these shares are of different sets", "collect the shares of one ceremony")
    if len({s.index for s in shares}) != len(shares):
        raise Malformed("one share is there twice", "another custodian gives another one")
    missing = first.threshold - len(shares)
    if missing > 0:
        raise Malformed(f"{missing} more share{'s are' if missing > 1 else ' is'} needed", "ask the next custodian")
    used = shares[: first.threshold]
    if len({len(s.view()) for s in used}) != 1:
        raise Malformed("these shares have different lengths", "collect the shares of one ceremony")
    secret = Slot(len(first.view()))
    for share in used:
        weight = _weight(share.index, [s.index for s in used])
        for position, byte in enumerate(share.view()):
            secret.view()[position] ^= multiply(byte, weight)
    if not same(module.key_check(secret).encode(), expected_check.encode()):
        secret.wipe()
        raise Malformed("these shares do not give the key of this server", "one of them is of another server or was altered")
    return secret


def _weight(index: int, indices: list[int]) -> int:
    """Return Lagrange's coefficient at 0."""
    weight = 1
    for other in indices:
        if other != index:
            weight = multiply(weight, multiply(other, _inverse(other ^ index)))
    return weight


def _checksum(raw: bytearray | bytes) -> bytes:
    return sha256(b"keyclave/share/1" + raw)[:_SUM]


def _to_digits(raw: bytearray) -> str:
    bits = len(raw) * 8
    number = int.from_bytes(raw, "big") << (-bits % 5)
    count = -(-bits // 5)
    return "".join(_ALPHABET[(number >> 5 * (count - 1 - i)) & 31] for i in range(count))


def _from_digits(digits: str) -> bytearray:
    number = 0
    for digit in digits[:1024]:
        value = _ALPHABET.find(digit)
        if value < 0:
            raise Malformed(f"{digit!r} does not occur in a share", "compare it with the paper, group by group")
        number = number << 5 | value
    spare = len(digits) * 5 % 8
    if number & ((1 << spare) - 1) or spare >= 5 or len(digits) > 1024:
        raise Malformed("this share has a typing error or is incomplete", "compare it with the paper, group by group")
    return bytearray((number >> spare).to_bytes(len(digits) * 5 // 8, "big"))
