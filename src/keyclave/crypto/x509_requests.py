"""Certificate signing requests, read strictly (RFC 2986): a key, proof that the sender holds it, and at most one name.

Nothing of a request but its key and its URI goes into a certificate. One that asks for more (to be an authority, other key usage,
further names) is refused whole: it was made by mistake or by somebody who hopes that it is copied.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyclave.core.errors import Malformed

LONGEST = 16_384  # characters of PEM
_PEM = re.compile(r"\s*-----BEGIN CERTIFICATE REQUEST-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE REQUEST-----\s*", re.ASCII)
_HASHES = ("sha256", "sha384", "sha512")
_RSA_BITS = (2048, 3072, 4096)
_RSA_EXPONENT = 65_537
_EXTENSION_REQUEST = x509.ObjectIdentifier("1.2.840.113549.1.9.14")  # RFC 2985 section 5.4.2


@dataclass(frozen=True)
class SigningRequest:
    """The key (SubjectPublicKeyInfo DER) and the names (URIs) of a request whose signature holds."""

    public: bytes
    uris: tuple[str, ...]


def read_request(text: str) -> SigningRequest:
    """Return what a PEM request asks for, or raise `Malformed` with what is wrong."""
    if len(text) > LONGEST or not _PEM.fullmatch(text):
        raise _wrong("it is one PEM block, BEGIN CERTIFICATE REQUEST, of at most 16 KiB")
    try:
        request = x509.load_pem_x509_csr(text.encode())
        _check_key(request)
        if not request.is_signature_valid:  # proof of possession: else a certificate binds a name to somebody else's key
            raise _wrong("its signature does not verify under its own key")
        uris = _names(request)
        public = request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
        raise _wrong("it is PKCS #10 in DER, with a key and a signature of kinds known here") from None
    return SigningRequest(public, uris)


def _check_key(request: x509.CertificateSigningRequest) -> None:
    key = request.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size not in _RSA_BITS or key.public_numbers().e != _RSA_EXPONENT:
            raise _wrong("an RSA key has 2048, 3072 or 4096 bits and the exponent 65537")
    elif not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)):
        raise _wrong("its key is on P-256 or P-384, or RSA")
    hashed = request.signature_hash_algorithm
    if hashed is None or hashed.name not in _HASHES:
        raise _wrong("it is signed with SHA-256, SHA-384 or SHA-512")


def _names(request: x509.CertificateSigningRequest) -> tuple[str, ...]:
    """Return its URIs; an attribute or extension other than the name, or another kind of name, is refused."""
    if any(one.oid != _EXTENSION_REQUEST for one in request.attributes):
        raise _wrong("it has no attribute but the extension request")
    found: list[str] = []
    for extension in request.extensions:
        if not isinstance(extension.value, x509.SubjectAlternativeName):
            raise _wrong("it asks for no extension but the subject alternative name")
        for name in extension.value:
            if not isinstance(name, x509.UniformResourceIdentifier):
                raise _wrong("it asks for no name but one URI")
            found.append(name.value)
    if len(found) > 1:
        raise _wrong("it asks for no name but one URI")
    return tuple(found)


def _wrong(rule: str) -> Malformed:
    return Malformed("the certificate request is not one that is taken", rule)
