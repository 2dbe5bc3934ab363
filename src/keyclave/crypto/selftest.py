"""Known-answer tests: the module shows that it computes what the standards say before it computes for anybody.

Published vectors, as hex. The quick ones run at every start; `full` adds pairwise tests of every key pair (on demand: RSA
generation takes seconds). Any failure latches the module (FIPS 140-3, section 7.10).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyclave.core.errors import InvalidSignature, KeyclaveError, Undecipherable
from keyclave.crypto.arena import Slot, slot_from
from keyclave.crypto.digest import sha256
from keyclave.crypto.suites import KeySpec, MacAlgorithm, Purpose, SignatureAlgorithm

if TYPE_CHECKING:
    from keyclave.crypto.module import CryptoModule


class KnownAnswer(Exception):
    """A computed value is not the published one."""


test_only_expected: dict[str, str] = {}
"""TEST-ONLY seam: replaces an expected answer by name, to show that a wrong one latches the module."""


def _expect(name: str, got: bytes, published: str) -> None:
    if got.hex() != test_only_expected.get(name, published):
        raise KnownAnswer(name)


def _slot(text: str) -> Slot:
    return slot_from(bytearray.fromhex(text))


def _sha256(_module: CryptoModule) -> None:
    # FIPS 180-4, the example "abc"
    _expect("sha-256", sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")


def _gcm(module: CryptoModule) -> None:
    # SP 800-38D test case 14 of the GCM specification: zero key, zero IV, sixteen zero bytes
    answer = "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"
    with _slot("00" * 32) as key:
        _expect("aes-256-gcm", AESGCM(key.view()).encrypt(bytes(12), bytes(16), b""), answer)
        sealed = bytes(12) + bytes.fromhex(answer)
        with module.open_slot(key, sealed, b"") as plain:
            _expect("aes-256-gcm-open", bytes(plain.view()), "00" * 16)
        try:
            module.open_slot(key, sealed[:-1] + bytes([sealed[-1] ^ 1]), b"").wipe()
        except Undecipherable:
            return
    raise KnownAnswer("aes-256-gcm accepts a wrong tag")


def _kwp(module: CryptoModule) -> None:
    # RFC 5649 section 6, first example
    with (
        _slot("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8") as key,
        _slot("c37b7e6492584340bed12207808941155068f738") as secret,
    ):
        wrapped = module.kwp_wrap(key, secret)
        _expect("kwp", wrapped, "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a")
        with module.kwp_unwrap(key, wrapped) as again:
            if not again.same_as(secret):
                raise KnownAnswer("kwp does not open again")


def _hmac(module: CryptoModule) -> None:
    # RFC 4231 test case 1
    answers = {
        MacAlgorithm.HMAC_SHA_256: "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        MacAlgorithm.HMAC_SHA_384: "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59c"
        "faea9ea9076ede7f4af152e8b2fa9cb6",
        MacAlgorithm.HMAC_SHA_512: "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde"
        "daa833b7d6b8a702038b274eaea3f4e4"
        "be9d914eeb61f1702e696c203a126854",
    }
    with _slot("0b" * 20) as key:
        for algorithm, answer in answers.items():
            _expect(algorithm.value, module.mac(key, algorithm, b"Hi There"), answer)


def _kbkdf(module: CryptoModule) -> None:
    # SP 800-108 counter mode is HMAC(key, counter || fixed input): computed here the other way round
    with _slot("0b" * 32) as key, module.derive(key, b"fixed input", 64) as derived:
        _expect("kbkdf", bytes(derived.view()), module.mac(key, MacAlgorithm.HMAC_SHA_512, b"\x00\x00\x00\x01fixed input").hex())


def _ed25519(_module: CryptoModule) -> None:
    # RFC 8032 section 7.1, test 1
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    _expect(
        "ed25519",
        key.sign(b""),
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    )


def _random(module: CryptoModule) -> None:
    if module.random(32) == module.random(32):
        raise KnownAnswer("the random generator repeats itself")


def _pairwise(module: CryptoModule, spec: KeySpec) -> None:
    """Use a fresh pair both ways, and see a wrong input refused (FIPS 140-3 pairwise consistency)."""
    pair = module.generate_pair(spec)
    with pair.private as private:
        if Purpose.SIGN in spec.purposes:
            algorithm = SignatureAlgorithm.fitting(spec)[0]
            signature = module.sign(private, spec, algorithm, b"pairwise", digested=False)
            module.verify(pair.public, spec, algorithm, b"pairwise", signature, digested=False)
            _refused(lambda: module.verify(pair.public, spec, algorithm, b"otherwise", signature, digested=False), spec)
        if Purpose.DECRYPT in spec.purposes:
            with module.decrypt_private(private, spec, module.encrypt_public(pair.public, spec, b"pairwise")) as plain:
                _expect(spec.value, bytes(plain.view()), b"pairwise".hex())
        if Purpose.ENCAPSULATE in spec.purposes:
            secret, ciphertext = module.encapsulate(pair.public, spec)
            with secret, module.decapsulate(private, spec, ciphertext) as again:
                if not secret.same_as(again):
                    raise KnownAnswer(spec.value)
        if Purpose.AGREE in spec.purposes:
            _agree(module, spec, private, pair.public)


def _agree(module: CryptoModule, spec: KeySpec, private: Slot, public: bytes) -> None:
    other = module.generate_pair(spec)
    with other.private, module.agree(private, spec, other.public) as one, module.agree(other.private, spec, public) as two:
        if not one.same_as(two):
            raise KnownAnswer(spec.value)


def _refused(call: Callable[[], None], spec: KeySpec) -> None:
    try:
        call()
    except InvalidSignature:
        return
    raise KnownAnswer(f"{spec.value} accepts a wrong signature")


_QUICK = (_sha256, _gcm, _kwp, _hmac, _kbkdf, _ed25519, _random)
_QUICK_PAIRS = (KeySpec.ECDSA_P256, KeySpec.ML_KEM_768)


def run(module: CryptoModule, *, full: bool) -> None:
    """Run the tests; the first failure is raised."""
    for test in _QUICK:
        test(module)
    for spec in KeySpec if full else _QUICK_PAIRS:
        if not spec.symmetric:
            try:
                _pairwise(module, spec)
            except KeyclaveError as error:
                raise KnownAnswer(f"{spec.value}: {error.detail}") from None
