"""The other end of a connection, as the listener saw it: nothing in here comes from a header that a client can write.

A trusted proxy's word about the client's address and certificate is the one exception, and it is taken before a `Peer` is made.
"""

from __future__ import annotations

from enum import StrEnum

from keyclave.crypto.digest import sha256


class Plane(StrEnum):
    """What a listener serves: managing (control), using keys (data), or both."""

    CONTROL = "control"
    DATA = "data"
    BOTH = "both"


class Peer:
    """One connection: `address` as text, the listener's `plane`, the client certificate (DER, verified by TLS) or None.

    `chain` are the certificates above it that came along, `thumbprint` its SHA-256 (RFC 8705 section 3.1), empty without one.
    """

    __slots__ = ("address", "certificate", "chain", "networks", "plane", "thumbprint")

    def __init__(
        self, address: str, plane: Plane = Plane.BOTH, certificate: bytes | None = None, chain: tuple[bytes, ...] = ()
    ) -> None:
        self.address = address
        self.plane = plane
        self.certificate = certificate
        self.chain = chain
        self.thumbprint = b"" if certificate is None else sha256(certificate)
        self.networks: dict[object, frozenset[str]] = {}  # names of networks it is in, by the policy revision that names them
