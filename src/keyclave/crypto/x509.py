"""Certificates of others, read strictly: what a leaf says, and whether it stands under an authority (RFC 5280 section 6).

A certificate reaches us through TLS, which has checked it against every authority at once; here it is found out which authority
vouches for it, so that one can never speak in the name of another.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature as NotValid
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from keyclave.core.errors import Malformed
from keyclave.crypto.digest import sha256

LARGEST = 16_384  # bytes of one certificate
DEPTH = 5  # certificates of a path, the leaf and the anchor among them
_Kind = TypeVar("_Kind", bound=x509.ExtensionType)
_RSA_BITS = 2048  # SP 800-131A rev 2 section 3
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_WEAK = frozenset({"md2", "md4", "md5", "sha1"})
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME, ExtensionOID.CERTIFICATE_POLICIES,
    }
)  # fmt: skip


@dataclass(frozen=True)
class Leaf:
    """What an end-entity certificate says. Times in microseconds; `thumbprint` is SHA-256 over its DER (RFC 8705 section 3.1)."""

    der: bytes
    thumbprint: bytes
    serial: int
    not_before: int
    not_after: int
    common_names: tuple[str, ...]
    uris: tuple[str, ...]
    dns_names: tuple[str, ...]
    authority: bool  # cA is true
    usage_critical: bool
    signs: bool  # digitalSignature
    signs_certificates: bool  # keyCertSign or cRLSign
    client: bool  # extended key usage absent, or clientAuth among it


def read_leaf(der: bytes) -> Leaf:
    """Return what a certificate says; `Malformed` for one that is none, or is of a kind that is not understood whole."""
    certificate = _load(der)
    try:
        extensions = certificate.extensions
        common = tuple(str(part.value) for part in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
        names = _extension(extensions, x509.SubjectAlternativeName)
        usage = _extension(extensions, x509.KeyUsage)
        basic = _extension(extensions, x509.BasicConstraints)
        extended = _extension(extensions, x509.ExtendedKeyUsage)
        return Leaf(
            der=der,
            thumbprint=sha256(der),
            serial=certificate.serial_number,
            not_before=_micros(certificate.not_valid_before_utc),
            not_after=_micros(certificate.not_valid_after_utc),
            common_names=common,
            uris=() if names is None else tuple(names.value.get_values_for_type(x509.UniformResourceIdentifier)),
            dns_names=() if names is None else tuple(names.value.get_values_for_type(x509.DNSName)),
            authority=basic is not None and basic.value.ca,
            usage_critical=usage is not None and usage.critical,
            signs=usage is not None and usage.value.digital_signature,
            signs_certificates=usage is not None and (usage.value.key_cert_sign or usage.value.crl_sign),
            client=extended is None or ExtendedKeyUsageOID.CLIENT_AUTH in extended.value,
        )
    except (ValueError, x509.DuplicateExtension, UnsupportedAlgorithm):
        raise _unreadable() from None


def certificates_in(pem: bytes) -> tuple[bytes, ...]:
    """Return the DER of every certificate of a PEM bundle; `Malformed` for none."""
    try:
        return tuple(one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(pem))
    except ValueError:
        raise Malformed("this is no PEM bundle of certificates", "concatenate the authorities' certificates in PEM") from None


def to_pem(der: bytes) -> str:
    """Return a certificate as PEM."""
    return _load(der).public_bytes(Encoding.PEM).decode()


def find_path(der: bytes, others: Sequence[bytes], anchors: Sequence[bytes], now: int) -> tuple[bytes, ...] | None:
    """Return the certificates above a leaf, up to one of `anchors`, all valid at `now` (microseconds); None where none stands.

    `others` are what the other end sent along: believed only as far as an anchor vouches for them.
    """
    try:
        leaf = _load(der)
        if not _stands_now(leaf, now) or not _understood(leaf):
            return None
        between = [_load(one) for one in others[: DEPTH * 2]]
        tops = [_load(one) for one in anchors]
    except Malformed:
        return None
    path = _climb(leaf, between, tops, now, 0)
    return None if path is None else tuple(one.public_bytes(Encoding.DER) for one in path)


def _climb(
    below: x509.Certificate, between: Sequence[x509.Certificate], tops: Sequence[x509.Certificate], now: int, depth: int
) -> list[x509.Certificate] | None:
    """Find the issuer among the anchors, else among the others; `depth` counts the authorities passed already."""
    for top in tops:
        if _issued(below, top, now, depth):
            return [top]
    if depth + 2 >= DEPTH:
        return None
    for one in between:
        if one != below and _issued(below, one, now, depth) and _understood(one):
            above = _climb(one, between, tops, now, depth + 1)
            if above is not None:
                return [one, *above]
    return None


def _issued(below: x509.Certificate, above: x509.Certificate, now: int, depth: int) -> bool:
    """Tell whether `above` is an authority that may and did sign `below` (RFC 5280 sections 6.1.3 and 6.1.4)."""
    if below.issuer != above.subject or not _stands_now(above, now):
        return False
    try:
        basic = _extension(above.extensions, x509.BasicConstraints)
        usage = _extension(above.extensions, x509.KeyUsage)
        hashed = below.signature_hash_algorithm
        if hashed is not None and hashed.name in _WEAK:
            return False
        if basic is None or not basic.value.ca or (usage is not None and not usage.value.key_cert_sign):
            return False
        if basic.value.path_length is not None and basic.value.path_length < depth:
            return False
        below.verify_directly_issued_by(above)
    except (NotValid, ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension):
        return False
    return True


def _understood(certificate: x509.Certificate) -> bool:
    """Tell whether nothing critical is in it that we do not hold it to, and its key is strong enough."""
    try:
        known = all(not one.critical or one.oid in _UNDERSTOOD for one in certificate.extensions)
        return known and _strong(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
        return False


def _strong(key: object) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size >= _RSA_BITS
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name in _CURVES
    return isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey)


def _stands_now(certificate: x509.Certificate, now: int) -> bool:
    return _micros(certificate.not_valid_before_utc) <= now < _micros(certificate.not_valid_after_utc)


def _extension(extensions: x509.Extensions, kind: type[_Kind]) -> x509.Extension[_Kind] | None:
    try:
        return extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


@functools.lru_cache(maxsize=1024)
def _load(der: bytes) -> x509.Certificate:
    if len(der) > LARGEST:
        raise _unreadable()
    try:
        certificate = x509.load_der_x509_certificate(der)
    except ValueError:
        raise _unreadable() from None
    if certificate.version is not x509.Version.v3:
        raise _unreadable()
    return certificate


def _micros(when: datetime) -> int:
    return int(when.timestamp()) * 1_000_000


def _unreadable() -> Malformed:
    return Malformed("the certificate cannot be read", "present an X.509 version 3 certificate in DER")


def public_point(der: bytes) -> tuple[str, bytes, bytes]:
    """Return (curve as JWK names it, x, y) of a certificate's key on P-256 or P-384 (RFC 7518 section 6.2.1)."""
    key = _load(der).public_key()
    names = {"secp256r1": "P-256", "secp384r1": "P-384"}
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in names:
        raise _unreadable()
    numbers, length = key.public_numbers(), (key.curve.key_size + 7) // 8
    return names[key.curve.name], numbers.x.to_bytes(length, "big"), numbers.y.to_bytes(length, "big")
