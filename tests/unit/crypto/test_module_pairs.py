"""Key pairs, as `CryptoModule` promises them: made, imported, used, refused; the same for every implementation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)
from hypothesis import given
from hypothesis import strategies as st

from keyclave.core.errors import Broken, InvalidSignature, KeyclaveError, Malformed, Undecipherable
from keyclave.crypto.arena import Slot, slot_from
from keyclave.crypto.module import CryptoModule, KeyPair
from keyclave.crypto.pyca import PycaModule
from keyclave.crypto.suites import KeySpec, Kind, Purpose, SignatureAlgorithm

PAIRS = [spec for spec in KeySpec if not spec.symmetric]
SIGNING = [(spec, algorithm) for spec in PAIRS for algorithm in SignatureAlgorithm.fitting(spec)]
ENCODED = (Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
LARGEST_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # n of P-256, FIPS 186-5


@pytest.fixture(scope="module")
def pairs(module: CryptoModule) -> Iterator[dict[KeySpec, KeyPair]]:
    """One pair of every kind, made once: RSA takes a while."""
    made = {spec: module.generate_pair(spec) for spec in PAIRS}
    yield made
    for pair in made.values():
        pair.private.wipe()


def test_the_module_makes_every_kind_of_key(module: CryptoModule) -> None:
    assert set(module.specs()) == set(KeySpec)
    assert {spec.kind for spec in PAIRS} == {Kind.SIGNATURE, Kind.RSA, Kind.AGREEMENT, Kind.ENCAPSULATION}
    for spec in KeySpec:
        assert spec.symmetric is (spec.length > 0)
        assert spec.strength >= 128
        assert spec.approved
        assert (Purpose.SIGN in spec.purposes) is bool(SignatureAlgorithm.fitting(spec))


@pytest.mark.requirement("R12")
@pytest.mark.parametrize("spec", [spec for spec in KeySpec if spec.symmetric])
def test_a_symmetric_spec_is_no_pair(module: CryptoModule, spec: KeySpec) -> None:
    with pytest.raises(Malformed):
        module.generate_pair(spec)


@pytest.mark.requirement("R12")
@pytest.mark.parametrize("spec", PAIRS)
def test_a_fresh_pair_is_encoded_as_others_encode_it(pairs: dict[KeySpec, KeyPair], spec: KeySpec) -> None:
    """The DER that is put together in locked memory is byte for byte what the library would have written."""
    private = bytes(pairs[spec].private.view())
    loaded: Any = load_der_private_key(private, None)
    assert loaded.private_bytes(*ENCODED) == private
    assert loaded.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == pairs[spec].public


@pytest.mark.requirement("R12")
def test_no_two_pairs_are_alike(module: CryptoModule) -> None:
    for spec in (KeySpec.ECDSA_P256, KeySpec.ED25519, KeySpec.ML_KEM_768):
        assert len({module.generate_pair(spec).public for _ in range(50)}) == 50


@pytest.mark.requirement("R12")
@pytest.mark.parametrize("drawn", [[0], [LARGEST_ORDER], [2**256 - 1, 0, LARGEST_ORDER + 5]])
def test_a_scalar_outside_the_curves_order_is_drawn_again(monkeypatch: pytest.MonkeyPatch, drawn: list[int]) -> None:
    from keyclave.crypto.pyca import private_keys

    genuine, outside = private_keys.random_slot, [scalar.to_bytes(32, "big") for scalar in drawn]
    asked: list[int] = []

    def draw(count: int) -> Slot:
        asked.append(count)
        return slot_from(outside.pop(0)) if outside else genuine(count)

    monkeypatch.setattr(private_keys, "random_slot", draw)
    pair = private_keys.generate(KeySpec.ECDSA_P256)
    loaded = load_der_private_key(bytes(pair.private.view()), None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    assert asked == [32] * (len(drawn) + 1)


def test_a_generator_that_never_gives_a_scalar_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    from keyclave.crypto.pyca import private_keys

    monkeypatch.setattr(private_keys, "random_slot", Slot)
    with pytest.raises(Broken):
        private_keys.generate(KeySpec.ECDH_P384)


@pytest.mark.requirement("R14")
@pytest.mark.parametrize(("spec", "algorithm"), SIGNING)
@pytest.mark.parametrize("message", [b"", b"message", bytes(64 * 1024)], ids=len)
def test_a_signature_verifies_for_its_message_alone(
    module: CryptoModule, pairs: dict[KeySpec, KeyPair], spec: KeySpec, algorithm: SignatureAlgorithm, message: bytes
) -> None:
    pair = pairs[spec]
    signature = module.sign(pair.private, spec, algorithm, memoryview(message), digested=False)
    module.verify(pair.public, spec, algorithm, message, signature, digested=False)
    wrong = [
        (message + b"!", signature), (message, signature[:-1]), (message, b""), (message, bytes(len(signature))),
        (message, signature[:-1] + bytes([signature[-1] ^ 1])), (message, signature + b"\0"),
    ]  # fmt: skip
    for other, given_signature in wrong:
        with pytest.raises(InvalidSignature):
            module.verify(pair.public, spec, algorithm, other, given_signature, digested=False)


@pytest.mark.requirement("R14")
@pytest.mark.parametrize(("spec", "algorithm"), SIGNING)
def test_digests_are_signed_where_the_algorithm_has_one(
    module: CryptoModule, pairs: dict[KeySpec, KeyPair], spec: KeySpec, algorithm: SignatureAlgorithm
) -> None:
    pair = pairs[spec]
    if algorithm in (SignatureAlgorithm.ED25519, SignatureAlgorithm.ML_DSA):
        with pytest.raises(Malformed):
            module.sign(pair.private, spec, algorithm, bytes(32), digested=True)
        return
    digest = hashlib.new(algorithm.value[-7:].replace("-", ""), b"message").digest()
    signature = module.sign(pair.private, spec, algorithm, digest, digested=True)
    module.verify(pair.public, spec, algorithm, b"message", signature, digested=False)
    signature = module.sign(pair.private, spec, algorithm, b"message", digested=False)
    module.verify(pair.public, spec, algorithm, digest, signature, digested=True)
    for wrong in (digest[:-1], digest + b"\0", b""):
        with pytest.raises(Malformed):
            module.sign(pair.private, spec, algorithm, wrong, digested=True)
        with pytest.raises(Malformed):
            module.verify(pair.public, spec, algorithm, wrong, signature, digested=True)


@pytest.mark.parametrize("spec", PAIRS)
@pytest.mark.parametrize("algorithm", SignatureAlgorithm)
def test_an_algorithm_that_does_not_fit_the_key_is_refused(
    module: CryptoModule, pairs: dict[KeySpec, KeyPair], spec: KeySpec, algorithm: SignatureAlgorithm
) -> None:
    if algorithm in SignatureAlgorithm.fitting(spec):
        return
    with pytest.raises(Malformed):
        module.sign(pairs[spec].private, spec, algorithm, b"message", digested=False)
    with pytest.raises(Malformed):
        module.verify(pairs[spec].public, spec, algorithm, b"message", b"signature", digested=False)


@pytest.mark.parametrize("spec", PAIRS)
def test_a_key_given_as_another_kind_is_refused(module: CryptoModule, pairs: dict[KeySpec, KeyPair], spec: KeySpec) -> None:
    """Signing with an ECDH key, or taking an RSA-3072 key for RSA-4096, would break the promise of one key, one purpose."""
    same_curve = {spec.value.replace("ecdsa", "ecdh"), spec.value.replace("ecdh", "ecdsa")}
    for other in PAIRS:
        if other.value in same_curve:
            continue  # the same mathematical key: which of the two it is, is for the key's record to say
        for call in uses(module, pairs[spec], other):
            with pytest.raises((Malformed, Undecipherable)):
                call()


def uses(module: CryptoModule, pair: KeyPair, spec: KeySpec) -> list[Callable[[], Any]]:
    """Return every use of a pair as if it were of `spec`."""
    calls: list[Callable[[], Any]] = [lambda: module.load_pair(spec, pair.private)]
    for algorithm in SignatureAlgorithm.fitting(spec)[:1]:
        calls.append(lambda algorithm=algorithm: module.sign(pair.private, spec, algorithm, b"message", digested=False))
        calls.append(
            lambda algorithm=algorithm: module.verify(pair.public, spec, algorithm, b"message", b"signature", digested=False)
        )
    if Purpose.DECRYPT in spec.purposes:
        calls += [
            lambda: module.encrypt_public(pair.public, spec, b"x"),
            lambda: module.decrypt_private(pair.private, spec, b"x"),
        ]
    if Purpose.AGREE in spec.purposes:
        calls.append(lambda: module.agree(pair.private, spec, pair.public))
    if Purpose.ENCAPSULATE in spec.purposes:
        calls += [lambda: module.encapsulate(pair.public, spec), lambda: module.decapsulate(pair.private, spec, b"x")]
    return calls


@pytest.mark.parametrize("spec", KeySpec)
def test_a_kind_that_does_not_serve_a_purpose_is_refused(
    module: CryptoModule, pairs: dict[KeySpec, KeyPair], spec: KeySpec
) -> None:
    pair = pairs.get(spec) or pairs[KeySpec.ED25519]
    calls: dict[Purpose, list[Callable[[], Any]]] = {
        Purpose.DECRYPT: [
            lambda: module.encrypt_public(pair.public, spec, b"x"), lambda: module.decrypt_private(pair.private, spec, bytes(384))
        ],
        Purpose.AGREE: [lambda: module.agree(pair.private, spec, pair.public)],
        Purpose.ENCAPSULATE: [
            lambda: module.encapsulate(pair.public, spec), lambda: module.decapsulate(pair.private, spec, bytes(1088))
        ],
    }  # fmt: skip
    for purpose, those in calls.items():
        for call in those if purpose not in spec.purposes else ():
            with pytest.raises(Malformed):
                call()


@pytest.mark.requirement("R14")
@pytest.mark.parametrize("spec", [KeySpec.RSA_3072, KeySpec.RSA_4096])
def test_oaep_opens_what_anybody_encrypted_to_the_public_key(
    module: CryptoModule, pairs: dict[KeySpec, KeyPair], spec: KeySpec
) -> None:
    pair, most = pairs[spec], int(spec.value[-4:]) // 8 - 66
    for plaintext in (b"x", bytes(32), bytes(range(200)), bytes(most)):
        with module.decrypt_private(pair.private, spec, module.encrypt_public(pair.public, spec, plaintext)) as opened:
            assert bytes(opened.view()) == plaintext
    public = load_der_public_key(pair.public)
    assert isinstance(public, rsa.RSAPublicKey)
    theirs = public.encrypt(b"theirs", padding.OAEP(padding.MGF1(SHA256()), SHA256(), None))
    with module.decrypt_private(pair.private, spec, theirs) as opened:
        assert bytes(opened.view()) == b"theirs"
    with slot_from(b"locked") as secret:
        sealed = module.encrypt_public(pair.public, spec, secret.view())
        with module.decrypt_private(pair.private, spec, sealed) as opened:
            assert opened.same_as(secret)
    for length in (0, most + 1):
        with pytest.raises(Malformed):
            module.encrypt_public(pair.public, spec, bytes(length))


@pytest.mark.parametrize("spec", [KeySpec.RSA_3072])
def test_oaep_says_nothing_of_why_it_does_not_open(module: CryptoModule, pairs: dict[KeySpec, KeyPair], spec: KeySpec) -> None:
    pair = pairs[spec]
    public: Any = load_der_public_key(pair.public)
    good = module.encrypt_public(pair.public, spec, b"plaintext")
    wrong = [
        b"", good[:-1], good + b"\0", bytes(384), b"\xff" * 384, good[:-1] + bytes([good[-1] ^ 1]),
        public.encrypt(b"x", padding.OAEP(padding.MGF1(SHA384()), SHA384(), None)),
        public.encrypt(b"x", padding.OAEP(padding.MGF1(SHA256()), SHA256(), b"label")),
        public.encrypt(b"", padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)),
    ]  # fmt: skip
    answers = set()
    for ciphertext in wrong:
        with pytest.raises(Undecipherable) as refused:
            module.decrypt_private(pair.private, spec, ciphertext)
        answers.add((refused.value.detail, refused.value.hint, refused.value.__cause__))
    assert len(answers) == 1


@pytest.mark.requirement("R14")
@pytest.mark.parametrize("spec", [KeySpec.ECDH_P256, KeySpec.ECDH_P384])
def test_two_parties_agree_and_a_third_does_not(module: CryptoModule, pairs: dict[KeySpec, KeyPair], spec: KeySpec) -> None:
    mine, theirs, other = pairs[spec], module.generate_pair(spec), module.generate_pair(spec)
    with (
        module.agree(mine.private, spec, theirs.public) as one,
        module.agree(theirs.private, spec, mine.public) as two,
        module.agree(other.private, spec, mine.public) as three,
    ):
        assert one.same_as(two)
        assert not one.same_as(three)
        assert len(one) == int(spec.value[-3:]) // 8


@pytest.mark.requirement("R14")
@pytest.mark.parametrize("spec", [KeySpec.ML_KEM_768, KeySpec.ML_KEM_1024])
def test_an_encapsulated_secret_comes_out_again(module: CryptoModule, pairs: dict[KeySpec, KeyPair], spec: KeySpec) -> None:
    pair = pairs[spec]
    secret, ciphertext = module.encapsulate(pair.public, spec)
    with secret, module.decapsulate(pair.private, spec, ciphertext) as again:
        assert secret.same_as(again)
        assert len(secret) == 32
        with module.decapsulate(pair.private, spec, bytes([ciphertext[0] ^ 1]) + ciphertext[1:]) as unrelated:
            assert not unrelated.same_as(secret)
    for wrong in (b"", ciphertext[:-1], ciphertext + b"\0"):
        with pytest.raises(Undecipherable):
            module.decapsulate(pair.private, spec, wrong)


@pytest.mark.requirement("R12")
@pytest.mark.parametrize("spec", PAIRS)
def test_a_pair_made_elsewhere_is_imported(module: CryptoModule, pairs: dict[KeySpec, KeyPair], spec: KeySpec) -> None:
    with slot_from(bytes(pairs[spec].private.view())) as theirs:
        pair = module.load_pair(spec, theirs)
        assert pair.public == pairs[spec].public
        assert pair.private.same_as(pairs[spec].private)
        pair.private.wipe()
        assert not theirs.wiped


@pytest.mark.requirement("R12")
@pytest.mark.parametrize(
    "der",
    [
        b"x", bytes(48), b"\x30\x03\x02\x01\x00",
        rsa.generate_private_key(65537, 2048).private_bytes(*ENCODED),
        rsa.generate_private_key(3, 3072).private_bytes(*ENCODED)[:-1],
        ec.generate_private_key(ec.SECP256K1()).private_bytes(*ENCODED),
        ec.generate_private_key(ec.SECP521R1()).private_bytes(*ENCODED),
        ed25519.Ed25519PrivateKey.generate().private_bytes(*ENCODED) + b"\0",
    ],
    ids=["a byte", "zeros", "a stub", "RSA-2048", "cut RSA", "secp256k1", "P-521", "a byte too many"],
)  # fmt: skip
@pytest.mark.parametrize("spec", [KeySpec.RSA_3072, KeySpec.ECDSA_P256, KeySpec.ED25519])
def test_a_private_key_that_is_not_of_the_spec_is_not_imported(module: CryptoModule, spec: KeySpec, der: bytes) -> None:
    with slot_from(der) as private, pytest.raises(Malformed) as refused:
        module.load_pair(spec, private)
    assert refused.value.hint


@pytest.mark.requirement("R12")
def test_an_imported_rsa_key_is_checked_in_full(module: CryptoModule, pairs: dict[KeySpec, KeyPair]) -> None:
    """A key whose parts do not belong together could give away its factors with the first signature."""
    der = bytearray(pairs[KeySpec.RSA_3072].private.view())
    prime = der[824:1016]
    assert der.count(prime) == 1
    der[1000] ^= 2
    with slot_from(der) as private, pytest.raises(Malformed):
        module.load_pair(KeySpec.RSA_3072, private)


@pytest.mark.parametrize("spec", PAIRS)
@pytest.mark.parametrize("wrong", ["nothing", "cut", "extended", "another kind", "huge"])
def test_a_public_key_that_is_none_is_malformed(
    module: CryptoModule, pairs: dict[KeySpec, KeyPair], spec: KeySpec, wrong: str
) -> None:
    good = pairs[spec].public
    other = pairs[KeySpec.ED25519 if spec is not KeySpec.ED25519 else KeySpec.ECDSA_P256].public
    public = {"nothing": b"", "cut": good[:-1], "extended": good + b"\0", "another kind": other, "huge": bytes(1 << 20)}[wrong]
    algorithm = next(iter(SignatureAlgorithm.fitting(spec)), None)
    calls: dict[Purpose, Callable[[], Any]] = {
        Purpose.SIGN: lambda: module.verify(public, spec, algorithm, b"message", b"signature", digested=False),  # type: ignore[arg-type]
        Purpose.DECRYPT: lambda: module.encrypt_public(public, spec, b"x"),
        Purpose.AGREE: lambda: module.agree(pairs[spec].private, spec, public),
        Purpose.ENCAPSULATE: lambda: module.encapsulate(public, spec),
    }
    for purpose in spec.purposes:
        with pytest.raises(Malformed):
            calls[purpose]()


@pytest.mark.requirement("R12")
@pytest.mark.parametrize("spec", [KeySpec.ECDH_P256, KeySpec.ECDSA_P256])
def test_a_point_outside_the_curve_is_refused(module: CryptoModule, pairs: dict[KeySpec, KeyPair], spec: KeySpec) -> None:
    """The invalid-curve attack reads a private key through points of a weaker curve."""
    public = pairs[spec].public
    for point in (public[:-1] + bytes([public[-1] ^ 1]), public[:26] + b"\x04" + bytes(64), public[:26] + b"\x00"):
        with pytest.raises(Malformed):
            if spec is KeySpec.ECDH_P256:
                module.agree(pairs[spec].private, spec, point)
            else:
                module.verify(point, spec, SignatureAlgorithm.ECDSA_SHA_256, b"", b"", digested=False)


@pytest.mark.requirement("P7")
@pytest.mark.parametrize("spec", PAIRS)
def test_a_wiped_private_key_is_refused_though_it_was_loaded_before(module: CryptoModule, spec: KeySpec) -> None:
    if spec.kind is Kind.RSA:
        return  # the same code; making two RSA keys more takes seconds
    pair = module.generate_pair(spec)
    private_uses = [call for call in uses(module, pair, spec) if call is not None]
    for call in private_uses:
        try:
            call()
        except (InvalidSignature, Undecipherable):
            continue
    pair.private.wipe()
    refused = 0
    for call in private_uses:
        try:
            call()
        except Broken:
            refused += 1
        except (InvalidSignature, Undecipherable):
            continue
    assert refused >= 2


@pytest.mark.requirement("P7")
def test_loaded_keys_are_few_and_go_with_their_slots() -> None:
    from keyclave.crypto.pyca import private_keys

    loaded = private_keys.Loaded(capacity=4)
    made = [private_keys.generate(KeySpec.ED25519).private for _ in range(6)]
    keys = [loaded.get(private, KeySpec.ED25519) for private in made]
    assert len(loaded) == 4
    assert loaded.get(made[5], KeySpec.ED25519) is keys[5], "it is remembered"
    assert loaded.get(made[0], KeySpec.ED25519) is not keys[0], "the least recently used went, and is loaded again"
    for private in made:
        private.wipe()
    assert len(loaded) == 0
    kept = private_keys.generate(KeySpec.ED25519).private
    loaded.get(kept, KeySpec.ED25519)
    assert len(loaded) == 1
    del kept
    assert len(loaded) == 0


@given(st.binary(max_size=300))
def test_no_bytes_make_anything_but_our_errors(blob: bytes) -> None:
    module = PycaModule()
    module.ready = True
    for spec in (KeySpec.ECDSA_P256, KeySpec.RSA_3072, KeySpec.ML_DSA_65):
        algorithm = SignatureAlgorithm.fitting(spec)[0]
        with pytest.raises(KeyclaveError):
            module.verify(blob, spec, algorithm, b"", blob, digested=False)
    if blob:
        with slot_from(blob) as private, pytest.raises(Malformed):
            module.load_pair(KeySpec.ECDSA_P256, private)
