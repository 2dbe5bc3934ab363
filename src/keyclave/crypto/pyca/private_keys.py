"""Private keys: made in locked memory, kept as PKCS #8 DER in a slot, loaded into OpenSSL for use.

An elliptic-curve scalar or a seed is drawn straight into the DER that holds it, so these keys never pass through a library's
encoder, which frees its buffers unwiped. RSA keys cannot be made so: the wheel makes and encodes them, its answer is
overwritten and the freed chunks are scrubbed.

A loaded key is an OpenSSL object with copies of the key in the ordinary heap. `Loaded` keeps some, because parsing costs
more than signing; it drops one when its slot is wiped, and OpenSSL cleanses the copies when the object dies.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import partial
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, mlkem, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from keyclave.core.errors import Broken, Malformed
from keyclave.crypto import heap
from keyclave.crypto.arena import Slot, in_use
from keyclave.crypto.module import KeyPair
from keyclave.crypto.pyca.symmetric import moved, random_slot
from keyclave.crypto.suites import KeySpec

RSA_BITS = {KeySpec.RSA_3072: 3072, KeySpec.RSA_4096: 4096}
CURVES: dict[KeySpec, type[ec.EllipticCurve]] = {
    KeySpec.ECDSA_P256: ec.SECP256R1,
    KeySpec.ECDSA_P384: ec.SECP384R1,
    KeySpec.ECDH_P256: ec.SECP256R1,
    KeySpec.ECDH_P384: ec.SECP384R1,
}
KINDS: dict[KeySpec, tuple[Any, Any]] = {
    KeySpec.ED25519: (ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey),
    KeySpec.ML_KEM_768: (mlkem.MLKEM768PrivateKey, mlkem.MLKEM768PublicKey),
    KeySpec.ML_KEM_1024: (mlkem.MLKEM1024PrivateKey, mlkem.MLKEM1024PublicKey),
    KeySpec.ML_DSA_65: (mldsa.MLDSA65PrivateKey, mldsa.MLDSA65PublicKey),
    KeySpec.ML_DSA_87: (mldsa.MLDSA87PrivateKey, mldsa.MLDSA87PublicKey),
}

# PKCS #8 (RFC 5958) up to the seed: Ed25519 (RFC 8410), ML-DSA (RFC 9881), ML-KEM (the same form, OIDs 2.16.840.1.101.3.4.4.*)
_SEEDED: dict[KeySpec, tuple[bytes, int]] = {
    KeySpec.ED25519: (bytes.fromhex("302e020100300506032b657004220420"), 32),
    KeySpec.ML_DSA_65: (bytes.fromhex("3034020100300b060960864801650304031204228020"), 32),
    KeySpec.ML_DSA_87: (bytes.fromhex("3034020100300b060960864801650304031304228020"), 32),
    KeySpec.ML_KEM_768: (bytes.fromhex("3054020100300b060960864801650304040204428040"), 64),
    KeySpec.ML_KEM_1024: (bytes.fromhex("3054020100300b060960864801650304040304428040"), 64),
}
# ECPrivateKey (RFC 5915) in PKCS #8: without and with the public point, which stands behind the scalar and before which
# comes `_POINT`
_BARE = {
    "secp256r1": bytes.fromhex("3041020100301306072a8648ce3d020106082a8648ce3d030107042730250201010420"),
    "secp384r1": bytes.fromhex("304e020100301006072a8648ce3d020106052b81040022043730350201010430"),
}
_WHOLE = {
    "secp256r1": bytes.fromhex("308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420"),
    "secp384r1": bytes.fromhex("3081b6020100301006072a8648ce3d020106052b8104002204819e30819b0201010430"),
}
_POINT = {"secp256r1": bytes.fromhex("a144034200"), "secp384r1": bytes.fromhex("a164036200")}
_DRAWS = 64  # a draw falls outside the curve's order once in 2^32 (P-256) or 2^192 times

CAPACITY = 1024  # loaded keys


def generate(spec: KeySpec) -> KeyPair:
    """Make a key pair."""
    if spec in CURVES:
        return _generate_on_curve(CURVES[spec]())
    if spec in _SEEDED:
        head, length = _SEEDED[spec]
        private = _framed(head, length)
        return KeyPair(private, _public_bytes(_load(private)))
    if spec in RSA_BITS:
        return _encoded(rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS[spec]))
    raise Malformed(f"{spec.value} is not a key pair", "choose the spec of a pair")


def import_pair(spec: KeySpec, private: Slot) -> KeyPair:
    """Load a private key that was made elsewhere with every check the library has, and require it to be of `spec`."""
    try:
        key: Any = load_der_private_key(private.view(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Malformed(
            "the private key is not PKCS #8 DER of a kind known here, or it is not valid",
            "convert it with `openssl pkcs8 -topk8`",
        ) from None
    finally:
        heap.scrub(heap.EVERYTHING)
    if not is_of(spec, key, private=True):
        raise Malformed(f"the private key is not of {spec.value}", "name the spec that it has")
    pair = _encoded(key)
    in_use(private)
    return pair


def is_of(spec: KeySpec, key: Any, *, private: bool) -> bool:
    """Tell whether a loaded key is one of `spec`."""
    if spec in RSA_BITS:
        return isinstance(key, rsa.RSAPrivateKey if private else rsa.RSAPublicKey) and key.key_size == RSA_BITS[spec]
    if spec in CURVES:
        kind = ec.EllipticCurvePrivateKey if private else ec.EllipticCurvePublicKey
        return isinstance(key, kind) and isinstance(key.curve, CURVES[spec])
    return spec in KINDS and isinstance(key, KINDS[spec][0 if private else 1])


def _generate_on_curve(curve: ec.EllipticCurve) -> KeyPair:
    """FIPS 186-5 A.2.2: draw until the scalar is from 1 to n - 1, which is for OpenSSL to say when it loads the key."""
    head, point_head, length = _WHOLE[curve.name], _POINT[curve.name], curve.key_size // 8
    for _ in range(_DRAWS):
        with _framed(_BARE[curve.name], length) as bare:
            try:
                key = _load(bare)
            except ValueError:
                continue
            point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            private = Slot(len(head) + length + len(point_head) + len(point))
            view = private.view()
            view[: len(head)] = head
            view[len(head) : len(head) + length] = bare.view()[-length:]
            view[len(head) + length :] = point_head + point
            return KeyPair(private, _public_bytes(key))
    raise Broken("the random generator does not give a valid scalar", "do not use this machine's keys until it is understood why")


def _framed(head: bytes, length: int) -> Slot:
    """Return DER: `head` and behind it `length` fresh random bytes."""
    slot = Slot(len(head) + length)
    view = slot.view()
    view[: len(head)] = head
    with random_slot(length) as secret:
        view[len(head) :] = secret.view()
    return slot


def _encoded(key: Any) -> KeyPair:
    """Take an OpenSSL key's encoding into locked memory."""
    private = moved(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    heap.scrub(heap.EVERYTHING)
    return KeyPair(private, _public_bytes(key))


def _public_bytes(key: Any) -> bytes:
    public: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return public


def _load(private: Slot) -> Any:
    """Load our own material. RSA's primality tests are skipped: they were made when it was generated or imported."""
    try:
        return load_der_private_key(private.view(), None, unsafe_skip_rsa_key_validation=True)
    finally:
        heap.scrub(heap.SCALARS if len(private) < 512 else heap.EVERYTHING)  # RSA keys are the long ones


class Loaded:
    """Loaded private keys, the least recently used dropped first; each goes when its slot is wiped."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._keys: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, private: Slot, spec: KeySpec) -> Any:
        """Return the key of a slot, loading it on first use. Under a slot's identity no other can be found: it goes with it."""
        in_use(private)
        place = id(private)
        key = self._keys.get(place)
        if key is None:
            key = self._add(place, private)
        else:
            try:
                self._keys.move_to_end(place)
            except KeyError:
                in_use(private)  # wiped, or pushed out, by another thread
        if not is_of(spec, key, private=True):
            raise Malformed(f"this private key is not of {spec.value}", "use the key with the spec it was made for")
        return key

    def _add(self, place: int, private: Slot) -> Any:
        try:
            key = _load(private)
        except ValueError:
            in_use(private)
            raise Broken("a private key of this server does not load", "restore the database from a backup") from None
        with self._lock:
            while len(self._keys) >= self._capacity:
                self._keys.popitem(last=False)
            self._keys[place] = key
        private.take_along(partial(self._keys.pop, place, None))
        in_use(private)
        return key
