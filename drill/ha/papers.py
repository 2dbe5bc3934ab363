"""Certificates for one run of the ground: an authority, and for each member one certificate that serves both ends of a connection."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from drill.ha.process import Account
from keyclave.crypto.x509_parts import begun, general_name, key_usage, named, private_pem

_DAYS = 2


@dataclass(frozen=True)
class Papers:
    """Where a member's own certificate, its key and the authority's certificate lie."""

    ca: Path
    certificate: Path
    key: Path


class Authority:
    """Issues certificates for loopback; its key is gone with the process."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = named(name)
        builder = self._begun(self._subject, self._key)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(key_usage(authority=True), critical=True)
        self.certificate = builder.sign(self._key, hashes.SHA256())

    def _begun(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
        return begun(subject, self._subject, key.public_key(), since, _DAYS)

    def pem(self) -> bytes:
        """Return the authority's certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, folder: Path, name: str, owner: Account) -> Papers:
        """Write a certificate for a member on loopback, for both ends of TLS, into its folder."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._begun(named(name), key)
        names = [general_name(one) for one in ("localhost", name, "127.0.0.1")]
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        certificate = builder.sign(self._key, hashes.SHA256())
        owner.folder(folder)
        return Papers(
            owner.file(folder / "ca.crt", self.pem(), 0o644),
            owner.file(folder / "member.crt", certificate.public_bytes(serialization.Encoding.PEM), 0o644),
            owner.file(folder / "member.key", private_pem(key)),
        )
