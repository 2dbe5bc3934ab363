"""Known-answer tests: a module shows that it computes what the standards say before it computes for anybody (FIPS 140-3, 7.10).

Published vectors where they exist; where a computation is ours alone (the message key and its commitment) the answer was
computed with Python's own hmac. The quick tests run before the first call of every process and on demand; `full` adds a fresh
pair of every kind used both ways. The caller latches the module when `run` raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from keyclave.core.errors import InvalidSignature, KeyclaveError, Undecipherable
from keyclave.crypto import published
from keyclave.crypto.arena import Slot, slot_from
from keyclave.crypto.digest import sha256
from keyclave.crypto.module import CryptoModule
from keyclave.crypto.suites import KeySpec, MacAlgorithm, Purpose, SignatureAlgorithm

GcmSeal = Callable[[Slot, bytes, bytes, bytes], bytes]
"""The module's AES-GCM under an IV that the caller gives (key, IV, plaintext, AAD), which its other calls never allow."""


class WrongAnswer(Exception):
    """A computed value is not the published one, or what should be refused was not."""


class KnownAnswers:
    """One run of the tests over one module."""

    def __init__(self, module: CryptoModule, gcm_seal: GcmSeal, replaced: Mapping[str, str]) -> None:
        self._module = module
        self._gcm_seal = gcm_seal
        self._replaced = replaced

    def run(self, *, full: bool) -> None:
        """Run the tests in order; the first failure is raised."""
        quick = (self._sha_256, self._gcm, self._context, self._kwp, self._hmac, self._kbkdf, self._message, self._random)
        pairs = (self._ecdsa, self._ed25519, self._rsa, self._derived_publics)
        for test in (*quick, *pairs):
            try:
                test()
            except KeyclaveError as error:
                raise WrongAnswer(f"{test.__name__.strip('_')}: {error.detail}") from None
        for spec in KeySpec if full else (KeySpec.ECDSA_P256, KeySpec.ECDH_P256, KeySpec.ML_KEM_768, KeySpec.ML_DSA_65):
            if not spec.symmetric:
                self._pairwise(spec)

    def _expect(self, name: str, computed: bytes, answer: str) -> None:
        if computed.hex() != self._replaced.get(name, answer):
            raise WrongAnswer(name)

    def _sha_256(self) -> None:
        # FIPS 180-4, the example "abc"
        self._expect("sha-256", sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")

    def _gcm(self) -> None:
        # "The Galois/Counter Mode of Operation", McGrew and Viega, test case 16
        iv, aad = bytes.fromhex("cafebabefacedbaddecaf888"), bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
        plaintext = (
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
            "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
        )
        answer = (
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838"
            "c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b"
        )
        with _slot("feffe9928665731c6d6a8f9467308308" * 2) as key:
            self._expect("aes-256-gcm", self._gcm_seal(key, iv, bytes.fromhex(plaintext), aad), answer)
            sealed = bytes.fromhex(answer)
            with self._module.open_slot(key, iv + sealed, aad) as opened:
                self._expect("aes-256-gcm-open", bytes(opened.view()), plaintext)
            for at in (0, -1):  # a flipped bit in the ciphertext, then in the tag
                wrong = bytearray(sealed)
                wrong[at] ^= 1
                _refused("aes-256-gcm", Undecipherable, self._module.open_slot, key, iv + wrong, aad)

    def _context(self) -> None:
        """A sealer takes its key when it is made. If it read it later, it would find the wiped scratch and seal under zeros."""
        with _slot("0b" * 32) as key:
            first = self._module.message_sealer(key, b"first")
            self._module.message_sealer(key, b"second")
            sealed = first.seal(bytes(12), b"plaintext", b"")
            opened = self._module.open_message(key, b"first", first.commitment, bytes(12), sealed, b"")
            self._expect("context", opened, b"plaintext".hex())

    def _kwp(self) -> None:
        # RFC 5649 section 6, first example
        answer = "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a"
        with (
            _slot("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8") as key,
            _slot("c37b7e6492584340bed12207808941155068f738") as secret,
        ):
            self._expect("aes-kwp", self._module.kwp_wrap(key, secret), answer)
            with self._module.kwp_unwrap(key, bytes.fromhex(answer)) as again:
                self._expect("aes-kwp-open", bytes(again.view()), bytes(secret.view()).hex())
            wrong = bytes.fromhex(answer[:-2] + "6b")
            _refused("aes-kwp", Undecipherable, self._module.kwp_unwrap, key, wrong)

    def _hmac(self) -> None:
        # RFC 4231 test case 1
        answers = {
            MacAlgorithm.HMAC_SHA_256: "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            MacAlgorithm.HMAC_SHA_384: "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59c"
            "faea9ea9076ede7f4af152e8b2fa9cb6",
            MacAlgorithm.HMAC_SHA_512: "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde"
            "daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
        }
        with _slot("0b" * 20) as key:
            for algorithm, answer in answers.items():
                self._expect(algorithm.value, self._module.mac(key, algorithm, b"Hi There"), answer)
                wrong = bytes.fromhex(answer[:-2] + "00")
                _refused(algorithm.value, InvalidSignature, self._module.verify_mac, key, algorithm, b"Hi There", wrong)

    def _kbkdf(self) -> None:
        # CAVS 14.4, SP 800-108 counter mode: HMAC-SHA-512, counter of 32 bits before the fixed input, COUNT = 0
        fixed = bytes.fromhex(
            "b50b0c963c6b3034b8cf19cd3f5c4ebe4f4985af0c03e575db62e6fdf1ecfe4f28b95d7ce16df85843246e1557ce95bb26cc9a21974bbd2eb69e8355"
        )
        with (
            _slot(
                "dd5dbd45593ee2ac139748e7645b450f223d2ff297b73fd71cbcebe71d41653c"
                "950b88500de5322d99ef18dfdd30428294c4b3094f4c954334e593bd982ec614"
            ) as key,
            self._module.derive(key, fixed, 16) as derived,
        ):
            self._expect("kbkdf-hmac-sha-512", bytes(derived.view()), "e5993bf9bd2aa1c45746042e12598155")

    def _message(self) -> None:
        with _slot(bytes(range(32)).hex()) as key:
            sealer = self._module.message_sealer(key, b"keyclave self-test")
            answer = "6eaa78db19ed7d98b7e5b9bb9d38d96ae54938926a7692d24c92522adfccce3d"
            self._expect("message-commitment", sealer.commitment, answer)
            sealed = sealer.seal(bytes(12), b"plaintext", b"aad")
            with _slot("6d4a13444b3ad0d775430765ff87e0d8d55717da2a66c590d9a0cbe41e24cf7b") as derived:
                self._expect("message-key", sealed, self._gcm_seal(derived, bytes(12), b"plaintext", b"aad").hex())
            asked = (key, b"keyclave self-test", bytes(32), bytes(12), sealed, b"aad")  # another commitment
            _refused("message-commitment", Undecipherable, self._module.open_message, *asked)

    def _random(self) -> None:
        drawn = [self._module.random(32) for _ in range(4)]
        with self._module.random_slot(32) as secret:
            drawn.append(bytes(secret.view()))
        if len(set(drawn)) != len(drawn) or bytes(32) in drawn:
            raise WrongAnswer("the random generator repeats itself")

    def _ecdsa(self) -> None:
        # RFC 6979 A.2.5 and A.2.6: the signature over "sample"
        for spec, (public, signature) in published.ECDSA.items():
            algorithm = SignatureAlgorithm.fitting(spec)[0]
            self._module.verify(public, spec, algorithm, b"sample", signature, digested=False)
            asked = (public, spec, algorithm, b"simple", signature)
            _refused(spec.value, InvalidSignature, self._module.verify, *asked, digested=False)

    def _ed25519(self) -> None:
        # RFC 8032 section 7.1, test 2
        answer = (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        )
        spec, algorithm = KeySpec.ED25519, SignatureAlgorithm.ED25519
        with _slot("302e020100300506032b6570042204204ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb") as private:
            self._expect("ed25519", self._module.sign(private, spec, algorithm, b"\x72", digested=False), answer)
        public = bytes.fromhex("302a300506032b65700321003d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
        self._module.verify(public, spec, algorithm, b"\x72", bytes.fromhex(answer), digested=False)

    def _rsa(self) -> None:
        spec, algorithm = KeySpec.RSA_3072, SignatureAlgorithm.RSA_PSS_SHA_256
        with slot_from(published.RSA_3072_TEST_KEY) as private:
            with self._module.decrypt_private(private, spec, published.OAEP_CIPHERTEXT) as opened:
                self._expect("rsa-oaep", bytes(opened.view()), published.OAEP_MESSAGE.hex())
            public, message = published.RSA_3072_TEST_PUBLIC, published.PSS_MESSAGE
            self._module.verify(public, spec, algorithm, message, published.PSS_SIGNATURE, digested=False)
            signature = self._module.sign(private, spec, algorithm, message, digested=False)
            self._module.verify(public, spec, algorithm, message, signature, digested=False)
            asked = (public, spec, algorithm, message + b"!", signature)
            _refused("rsa-pss", InvalidSignature, self._module.verify, *asked, digested=False)

    def _derived_publics(self) -> None:
        """From a published seed the published public key must come (FIPS 203 and 204, key generation), seen by its digest."""
        for spec, (private, answer) in published.SEEDS.items():
            with _slot(private) as seed:
                pair = self._module.load_pair(spec, seed)
                pair.private.wipe()
                self._expect(spec.value, sha256(pair.public), answer)

    def _pairwise(self, spec: KeySpec) -> None:
        """Use a fresh pair both ways and see a wrong input refused (FIPS 140-3 IG 10.3.A, pairwise consistency)."""
        module, name = self._module, f"{spec.value}-pairwise"
        pair = module.generate_pair(spec)
        with pair.private as private:
            if Purpose.SIGN in spec.purposes:
                algorithm = SignatureAlgorithm.fitting(spec)[0]
                signature = module.sign(private, spec, algorithm, b"pairwise", digested=False)
                module.verify(pair.public, spec, algorithm, b"pairwise", signature, digested=False)
                asked = (pair.public, spec, algorithm, b"otherwise", signature)
                _refused(name, InvalidSignature, module.verify, *asked, digested=False)
            if Purpose.DECRYPT in spec.purposes:
                with module.decrypt_private(private, spec, module.encrypt_public(pair.public, spec, b"pairwise")) as plain:
                    self._expect(name, bytes(plain.view()), b"pairwise".hex())
            if Purpose.ENCAPSULATE in spec.purposes:
                secret, ciphertext = module.encapsulate(pair.public, spec)
                with secret, module.decapsulate(private, spec, ciphertext) as again:
                    self._expect(name, bytes(again.view()), bytes(secret.view()).hex())
            if Purpose.AGREE in spec.purposes:
                other = module.generate_pair(spec)
                with (
                    other.private,
                    module.agree(private, spec, other.public) as one,
                    module.agree(other.private, spec, pair.public) as two,
                ):
                    self._expect(name, bytes(one.view()), bytes(two.view()).hex())


def run(module: CryptoModule, gcm_seal: GcmSeal, replaced: Mapping[str, str], *, full: bool) -> None:
    """Run the tests over `module`. `replaced`: other answers by name, given by tests only, to see a wrong one found."""
    KnownAnswers(module, gcm_seal, replaced).run(full=full)


def _refused(name: str, error: type[KeyclaveError], call: Callable[..., object], *args: object, **named: object) -> None:
    try:
        call(*args, **named)
    except error:
        return
    raise WrongAnswer(f"{name}: a wrong input was accepted")


def _slot(text: str) -> Slot:
    return slot_from(bytearray.fromhex(text))
