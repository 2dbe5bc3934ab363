"""The log's signer and verifier, and digests, tokens and certificates: the small rooms of crypto."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from keyclave.core.errors import Broken, InvalidSignature, Malformed
from keyclave.crypto import digest
from keyclave.crypto.arena import slot_from
from keyclave.crypto.bearer import new_token, token_digest
from keyclave.crypto.certificates import development_certificates
from keyclave.crypto.log_keys import LogSigner, LogVerifier
from keyclave.crypto.module import CryptoModule

SEED = bytes(range(64))


@pytest.mark.requirement("R40")
def test_both_keys_come_from_their_halves_of_the_seed() -> None:
    signer = LogSigner(slot_from(SEED))
    ed25519, mldsa44 = Ed25519PrivateKey.from_private_bytes(SEED[:32]), MLDSA44PrivateKey.from_seed_bytes(SEED[32:])
    assert signer.public_ed25519() == ed25519.public_key().public_bytes_raw()
    assert signer.public_mldsa44() == mldsa44.public_key().public_bytes_raw()
    assert signer.sign_ed25519(b"checkpoint") == ed25519.sign(b"checkpoint")
    mldsa44.public_key().verify(signer.sign_mldsa44(b"checkpoint"), b"checkpoint")
    assert len(signer.sign_mldsa44(b"")) == 2420


@pytest.mark.requirement("R40")
def test_a_signature_verifies_for_its_message_and_key_alone() -> None:
    signer, other, verifier = LogSigner(slot_from(SEED)), LogSigner(slot_from(SEED[::-1])), LogVerifier()
    for sign, public, others, verify in (
        (signer.sign_ed25519, signer.public_ed25519(), other.public_ed25519(), verifier.verify_ed25519),
        (signer.sign_mldsa44, signer.public_mldsa44(), other.public_mldsa44(), verifier.verify_mldsa44),
    ):
        signature = sign(b"checkpoint")
        verify(public, b"checkpoint", signature)
        for asked in (
            (public, b"checkpoint!", signature), (others, b"checkpoint", signature), (public, b"checkpoint", signature[:-1]),
            (public, b"checkpoint", b""), (public[:-1], b"checkpoint", signature), (b"", b"checkpoint", signature),
            (public, b"checkpoint", bytes([signature[0] ^ 1]) + signature[1:]),
        ):  # fmt: skip
            with pytest.raises(InvalidSignature):
                verify(*asked)


@pytest.mark.requirement("P7", "R40")
def test_a_signer_whose_seed_is_wiped_signs_no_more() -> None:
    signer = LogSigner(slot_from(SEED))
    signer.wipe()
    for sign in (signer.sign_ed25519, signer.sign_mldsa44):
        with pytest.raises(Broken):
            sign(b"checkpoint")
    assert len(signer.public_ed25519()) == 32


@pytest.mark.parametrize("length", [1, 32, 63, 65])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(Malformed):
        LogSigner(slot_from(bytes(length)))


@pytest.mark.requirement("R40")
def test_tree_hashes_are_those_of_rfc_6962() -> None:
    left, right = hashlib.sha256(b"\x00left").digest(), hashlib.sha256(b"\x00right").digest()
    assert digest.leaf_hash(b"left") == left
    assert digest.node_hash(left, right) == hashlib.sha256(b"\x01" + left + right).digest()
    assert digest.sha256(memoryview(b"abc")).hex().startswith("ba7816bf")
    assert digest.same(left, bytes(left))
    assert not digest.same(left, right)
    assert not digest.same(left, left[:-1])


@pytest.mark.requirement("R4")
def test_a_token_carries_256_bits_and_is_found_by_its_digest_alone(module: CryptoModule) -> None:
    made = [new_token(module) for _ in range(200)]
    for text, stored in made:
        assert text.startswith("kct_")
        assert len(base64.urlsafe_b64decode(text[4:] + "=")) == 32
        assert len(text) == 47
        assert stored == token_digest(text.encode()) == hashlib.sha256(text.encode()).digest()
    assert len({text for text, _ in made}) == len(made)


NAMES = ("localhost", "127.0.0.1", "::1", "keys.hospital.example", "localhost")


@pytest.mark.requirement("R1")
def test_the_first_certificates_serve_tls_to_whoever_trusts_the_authority() -> None:
    made = development_certificates(NAMES)
    ca, server = x509.load_pem_x509_certificate(made.ca), x509.load_pem_x509_certificate(made.server)
    server.verify_directly_issued_by(ca)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "keys.hospital.example"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    now = datetime.datetime.now(datetime.UTC)
    assert ca.not_valid_before_utc < now < ca.not_valid_before_utc + datetime.timedelta(days=3650) == ca.not_valid_after_utc
    assert server.not_valid_after_utc - server.not_valid_before_utc == datetime.timedelta(days=397)
    for pem, certificate in ((made.ca_key, ca), (made.server_key, server)):
        key = load_pem_private_key(pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.public_key() == certificate.public_key()
    assert made.server_key.decode() not in repr(made)


@pytest.mark.requirement("R1")
@pytest.mark.parametrize(("name", "good"), [("localhost", True), ("127.0.0.1", True), ("elsewhere.example", False)])
def test_a_handshake_holds_the_name(name: str, good: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    made, folder = development_certificates(NAMES), tmp_path_factory.mktemp("tls")
    (folder / "chain").write_bytes(made.server + made.server_key)
    offer, ask = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cadata=made.ca.decode())
    offer.load_cert_chain(folder / "chain")
    wires = [ssl.MemoryBIO() for _ in range(2)]
    client, host = ask.wrap_bio(wires[0], wires[1], server_hostname=name), offer.wrap_bio(wires[1], wires[0], server_side=True)

    def shake() -> None:
        for _ in range(4):
            for end in (client, host):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue

    if good:
        shake()
        assert client.version() == "TLSv1.3"
    else:
        with pytest.raises(ssl.SSLCertVerificationError):
            shake()
