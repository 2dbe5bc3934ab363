"""Which model of authenticator a certificate vouches for (WebAuthn section 8.2.1, extension 1.3.6.1.4.1.45724.1.1.4)."""

from __future__ import annotations

from cryptography import x509

_MODEL = x509.ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4")
_OCTETS = b"\x04\x10"  # DER: an octet string of 16 bytes


def attested_model(certificate: bytes) -> bytes | None:
    """Return the AAGUID (16 bytes) in an attestation certificate (DER), or None where it names none. Else `ValueError`."""
    try:
        extension = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_oid(_MODEL)
    except x509.ExtensionNotFound:
        return None
    value = extension.value
    if extension.critical or not isinstance(value, x509.UnrecognizedExtension) or value.value[:2] != _OCTETS:
        raise ValueError("the certificate's model is not in the form of the standard")
    if len(value.value) != 18:
        raise ValueError("the certificate's model is not 16 bytes")
    return value.value[2:]
