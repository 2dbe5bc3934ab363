"""The other end of a connection, as the listener saw it: nothing in here comes from a header that a client can write.

A trusted proxy's word about the client's address is the one exception, and it is taken before a `Peer` is made.
"""

from __future__ import annotations

from enum import StrEnum


class Plane(StrEnum):
    """What a listener serves: managing (control), using keys (data), or both."""

    CONTROL = "control"
    DATA = "data"
    BOTH = "both"


class Peer:
    """One connection: `address` as text, the listener's `plane`, the client certificate (DER, verified by TLS) or None."""

    __slots__ = ("address", "certificate", "networks", "plane")

    def __init__(self, address: str, plane: Plane = Plane.BOTH, certificate: bytes | None = None) -> None:
        self.address = address
        self.plane = plane
        self.certificate = certificate
        self.networks: dict[object, frozenset[str]] = {}  # names of networks it is in, by the policy revision that names them
