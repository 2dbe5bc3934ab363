"""Fresh symmetric keys, generated, checked and sealed in one go: nobody outside this room ever holds one.

Each step runs over all of them before the next one begins. Done key by key, generator, MAC and cipher would throw each other's
code out of the processor's nearest caches every time, which costs as much again as the work itself.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyclave.core.errors import Broken
from keyclave.crypto.arena import LARGEST, Slot, in_use
from keyclave.crypto.pyca.symmetric import IV, aes_key, check_value, fill, random


def make_sealed(key: Slot, length: int, aads: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield, for each of `aads`, check value and sealed form of a new key of `length` bytes, under IVs of 96 random bits.

    What was sealed has been opened again and compared: memory that forgets must not be found out when the key is needed.
    """
    at_once = LARGEST // length
    for first in range(0, len(aads), at_once):
        yield from _make(key, length, aads[first : first + at_once])


def _make(key: Slot, length: int, aads: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
    ivs = random(IV * len(aads))
    cipher = AESGCM(aes_key(key))
    with Slot(length * len(aads)) as fresh, Slot(length) as again:
        whole, opened = fresh.view(), again.view()
        fill(whole)
        keys = [whole[at : at + length] for at in range(0, len(whole), length)]
        checks = [check_value(one) for one in keys]
        sealed = [
            (iv := ivs[at * IV : at * IV + IV]) + cipher.encrypt(iv, one, aad)
            for at, (one, aad) in enumerate(zip(keys, aads, strict=True))
        ]
        for one, aad, each in zip(keys, aads, sealed, strict=True):
            try:
                cipher.decrypt_into(each[:IV], memoryview(each)[IV:], aad, opened)
            except InvalidTag:
                raise _forgetful() from None
            if not hmac.compare_digest(one, opened):
                raise _forgetful()
        in_use(key)
    yield from zip(checks, sealed, strict=True)


def _forgetful() -> Broken:
    return Broken("wrapped key material does not open again", "stop the server and check its memory")
