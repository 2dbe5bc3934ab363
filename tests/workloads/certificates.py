"""Certificates for tests: authorities, leaves good and bad, made with the library and nothing of the product."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
DAY = dt.timedelta(days=1)
_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
    "encipher_only", "decipher_only",
)  # fmt: skip


def usage(*wanted: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in wanted for name in _USAGES})


def named(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else [])


@dataclass
class Identity:
    """A certificate with its key, and what it was signed by."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    above: list[x509.Certificate] = field(default_factory=list)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def write(self, folder: Path, name: str) -> tuple[str, str]:
        """Write chain and key as PEM and return their paths."""
        chain, key = folder / f"{name}.pem", folder / f"{name}.key"
        chain.write_bytes(self.pem + b"".join(one.public_bytes(Encoding.PEM) for one in self.above))
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return str(chain), str(key)

    def context(self, folder: Path, ca_file: str, name: str = "client") -> ssl.SSLContext:
        """Return a TLS client's context that presents it."""
        context = ssl.create_default_context(cafile=ca_file)
        context.load_cert_chain(*self.write(folder, name))
        return context


class Authority(Identity):
    """An authority that signs whatever it is asked to."""

    @classmethod
    def root(cls, common: str, *, subject: x509.Name | None = None, **more: Any) -> Authority:
        key, name = ec.generate_private_key(ec.SECP256R1()), subject or named(common)
        return cls(_signed(name, name, key.public_key(), key, _authority(more), **more), key)

    def below(self, common: str, **more: Any) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        made = _signed(named(common), self.certificate.subject, key.public_key(), self.key, _authority(more), **more)
        return Authority(made, key, [made])

    def leaf(
        self,
        *names: x509.GeneralName,
        common: str = "",
        extensions: Sequence[tuple[x509.ExtensionType, bool]] | None = None,
        signed_by: ec.EllipticCurvePrivateKey | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
        subject: x509.Name | None = None,
        **more: Any,
    ) -> Identity:
        """Sign a leaf as a SPIFFE workload has it; `extensions` replaces all but the names."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        usual: Sequence[tuple[x509.ExtensionType, bool]] = (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (usage("digital_signature"), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), False),
        )
        chosen = list(usual if extensions is None else extensions)
        if names:
            chosen.append((x509.SubjectAlternativeName(names), not common))
        issuer, by = self.certificate.subject, signed_by or self.key
        made = _signed(subject or named(common), issuer, key.public_key(), by, chosen, **more)
        return Identity(made, key, self.above)

    def svid(self, name: str, **more: Any) -> Identity:
        return self.leaf(x509.UniformResourceIdentifier(name), **more)


def _authority(more: dict[str, Any]) -> list[tuple[x509.ExtensionType, bool]]:
    length = more.pop("path_length", None)
    return [(x509.BasicConstraints(ca=True, path_length=length), True), (usage("key_cert_sign", "crl_sign"), True)]


def _signed(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    by: ec.EllipticCurvePrivateKey,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
    since: dt.datetime = NOW - DAY,
    until: dt.datetime = NOW + DAY,
    serial: int | None = None,
) -> x509.Certificate:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    builder = builder.serial_number(serial or x509.random_serial_number()).not_valid_before(since).not_valid_after(until)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(by, hashes.SHA256())


def signing_request(
    *names: x509.GeneralName,
    key: Any = None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    attributes: Sequence[tuple[x509.ObjectIdentifier, bytes]] = (),
    hashed: Any = None,
) -> tuple[str, Any]:
    """Return a request (PEM) and its key."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(named("anybody"))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    for oid, value in attributes:
        builder = builder.add_attribute(oid, value)
    return builder.sign(key, hashed or hashes.SHA256()).public_bytes(Encoding.PEM).decode(), key
