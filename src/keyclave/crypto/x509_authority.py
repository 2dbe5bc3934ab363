"""A tenant's own certificate authority: its certificate, workload certificates, revocation lists (RFC 5280, X509-SVID).

What goes into a certificate is written here whole; nothing is copied from a request but the public key. The cryptographic module
signs: the library only writes down what is to be signed, under a key that is thrown away, and its signature is replaced.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature as NotValid
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keyclave.core.errors import Malformed
from keyclave.crypto.arena import Slot
from keyclave.crypto.suites import KeySpec, SignatureAlgorithm
from keyclave.crypto.x509_parts import key_usage

if TYPE_CHECKING:
    from keyclave.crypto.module import CryptoModule, KeyPair

AUTHORITY_DAYS = 1826  # five years
SKEW = 60  # seconds that a certificate is valid before it is issued: clocks differ
_LARGEST_LIST = 16 * 1024 * 1024
# ecdsa-with-SHA256 and ecdsa-with-SHA384, without parameters (RFC 5758 section 3.2)
_IDENTIFIER = {
    KeySpec.ECDSA_P256: bytes.fromhex("300a06082a8648ce3d040302"),
    KeySpec.ECDSA_P384: bytes.fromhex("300a06082a8648ce3d040303"),
}
_ALGORITHM = {
    KeySpec.ECDSA_P256: SignatureAlgorithm.ECDSA_SHA_256,
    KeySpec.ECDSA_P384: SignatureAlgorithm.ECDSA_SHA_384,
}


class Signer:
    """An authority's key at work: `private` is PKCS #8 in a slot that the caller wipes."""

    def __init__(self, module: CryptoModule, private: Slot, spec: KeySpec) -> None:
        self._module = module
        self._private = private
        self._spec = spec

    def certificate(self, builder: x509.CertificateBuilder) -> bytes:
        """Return the signed certificate (DER)."""
        return self._signed(builder.sign(ec.generate_private_key(ec.SECP256R1()), self._hash()).tbs_certificate_bytes)

    def list(self, builder: x509.CertificateRevocationListBuilder) -> bytes:
        """Return the signed revocation list (DER)."""
        return self._signed(builder.sign(ec.generate_private_key(ec.SECP256R1()), self._hash()).tbs_certlist_bytes)

    def _hash(self) -> hashes.SHA256 | hashes.SHA384:
        return hashes.SHA256() if self._spec is KeySpec.ECDSA_P256 else hashes.SHA384()

    def _signed(self, content: bytes) -> bytes:
        signature = self._module.sign(self._private, self._spec, _ALGORITHM[self._spec], content, digested=False)
        return _der(0x30, content + _IDENTIFIER[self._spec] + _der(0x03, b"\0" + signature))


def self_signed(module: CryptoModule, pair: KeyPair, spec: KeySpec, domain: str, identity: str, now: int) -> bytes:
    """Return the authority's certificate (DER) for a trust domain: signs certificates and lists, no authority below it."""
    public: Any = load_der_public_key(pair.public)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Keyclave"),
            # its own name: TLS looks for an issuer by name, and every tenant has an authority
            x509.NameAttribute(NameOID.COMMON_NAME, f"workload authority {identity}"),
        ]
    )
    since = _at(now, -SKEW)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(since + datetime.timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{domain}")]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    return Signer(module, pair.private, spec).certificate(builder)


def issue(signer: Signer, authority: bytes, public: bytes, uri: str, now: int, seconds: int) -> bytes:
    """Return a workload's certificate (DER), valid from a minute ago, for `seconds` in all."""
    above = x509.load_der_x509_certificate(authority)
    subject: Any = load_der_public_key(public)
    since = _at(now, -SKEW)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Keyclave workload")]))
        .issuer_name(above.subject)
        .public_key(subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(since + datetime.timedelta(seconds=seconds))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(subject), critical=False)
        .add_extension(_above(above), critical=False)
    )
    return signer.certificate(builder)


def revocation_list(
    signer: Signer, authority: bytes, number: int, revoked: Iterable[tuple[int, int]], now: int, seconds: int
) -> bytes:
    """Return a CRL (DER, RFC 5280 section 5) of (serial, when) with the next one due in `seconds`."""
    above = x509.load_der_x509_certificate(authority)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(above.subject)
        .last_update(_at(now))
        .next_update(_at(now, seconds))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_above(above), critical=False)
    )
    for serial, when in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_at(when)).build()
        builder = builder.add_revoked_certificate(entry)
    return signer.list(builder)


def read_revocation_list(data: bytes, anchors: Iterable[bytes], now: int) -> frozenset[int]:
    """Return the serials in an outside authority's CRL (PEM or DER).

    `Malformed` for one that none of `anchors` signed, that is over (RFC 5280 section 6.3.3), or that is not read whole here.
    """
    if len(data) > _LARGEST_LIST:
        raise _list("it has at most 16 MiB")
    try:
        found = x509.load_pem_x509_crl(data) if data.lstrip().startswith(b"-----") else x509.load_der_x509_crl(data)
        signed = any(_signed(found, x509.load_der_x509_certificate(anchor)) for anchor in anchors)
        strange = any(
            one.critical for one in found.extensions
        )  # a delta or a part of a list, read as a whole one, leaves some out
    except (ValueError, UnsupportedAlgorithm):
        raise _list("it is an X.509 CRL in PEM or DER") from None
    if not signed or strange:
        raise _list("the authority itself signs it, whole and directly")
    if found.next_update_utc is None or int(found.next_update_utc.timestamp()) * 1_000_000 <= now:
        raise _list("it is a current one: fetch the next")
    return frozenset(one.serial_number for one in found)


def _signed(found: x509.CertificateRevocationList, anchor: x509.Certificate) -> bool:
    key: Any = anchor.public_key()
    try:
        return found.issuer == anchor.subject and bool(found.is_signature_valid(key))
    except (NotValid, TypeError, ValueError):
        return False


def _above(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    found = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found.value)


def _der(tag: int, content: bytes) -> bytes:
    """Return tag, length and content (X.690 section 8.1.3)."""
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    written = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(written))) + written + content


def _at(now: int, seconds: int = 0) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(now // 1_000_000 + seconds, datetime.UTC)


def _list(rule: str) -> Malformed:
    return Malformed("the revocation list cannot be used", rule)
