"""A certificate authority of the house's own, and the server's certificate, for a first start (RFC 5280, P-256, SHA-256)."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from keyclave.crypto.x509_parts import begun, general_name, key_usage, named, private_pem

CA_DAYS = 3650
SERVER_DAYS = 397


@dataclass(frozen=True, repr=False)
class Certificates:
    """PEM, each with its key."""

    ca: bytes
    ca_key: bytes
    server: bytes
    server_key: bytes


def development_certificates(names: tuple[str, ...]) -> Certificates:
    """Return a new authority and a certificate of it for `names` (DNS names and addresses)."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - datetime.timedelta(minutes=5)
    ca_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name, server_name = named("Keyclave local authority"), named("Keyclave server")
    ca = (
        begun(ca_name, ca_name, ca_key.public_key(), now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    server = (
        begun(server_name, ca_name, server_key.public_key(), now, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([general_name(n) for n in dict.fromkeys(names)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(server_key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return Certificates(
        ca.public_bytes(Encoding.PEM), private_pem(ca_key), server.public_bytes(Encoding.PEM), private_pem(server_key)
    )
