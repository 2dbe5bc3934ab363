"""A workload's own certificate on this machine: made with an enrolment token, renewed with itself, kept in two files.

The private key is made here and never leaves. Both files are replaced whole, the key first: whoever reads between the two meets
a pair that does not fit, says so, and reads again.
"""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from keyclave_client.client import Client
from keyclave_client.errors import KeyclaveError
from keyclave_client.views import Certificate


def enrol(
    client: Client, certificate_file: str, key_file: str, *, name: str | None = None, ttl_seconds: int | None = None
) -> Certificate:
    """Get a certificate as whoever `client` is (an enrolment token, or the live certificate to renew) and keep it.

    `name` is the SPIFFE ID, needed where the token stands for several.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if name is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name)]), critical=False)
    csr = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    made = client.issue_certificate(csr, ttl_seconds=ttl_seconds, idempotency_key=str(uuid.uuid4()))
    if made.certificate is None:
        raise KeyclaveError("the server's answer holds no certificate", "check the address and what stands between")
    _replace(key_file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    _replace(certificate_file, made.certificate.encode())
    return made


def is_due(certificate_file: str, now: datetime | None = None) -> bool:
    """Tell whether half of a certificate's life is over: the time to renew it."""
    with open(certificate_file, "rb") as file:
        found = x509.load_pem_x509_certificate(file.read())
    begins, ends = found.not_valid_before_utc, found.not_valid_after_utc
    return (now or datetime.now(UTC)) >= begins + (ends - begins) / 2


def _replace(path: str, content: bytes) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    partial = f"{path}.{os.getpid()}.part"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
