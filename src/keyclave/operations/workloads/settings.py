"""What the configuration says of workloads, in the form that operations take it: checked, and free of files."""

from __future__ import annotations

import msgspec

from keyclave.identity.certificates import Authority
from keyclave.identity.workload_tokens import Issuer

DAY = 86_400


class WorkloadSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`trust_domain` is the home tenant's; every other tenant has one of its own below it. Times in seconds.

    `certificate_seconds`: how long a certificate lives at most (24 hours). `token_seconds`: a token bound to one.
    `renewal_seconds`: how long a credential may be carried on by renewing, counted from the first; 0 = not at all.
    """

    trust_domain: str = "keyclave.localhost"
    spec: str = "ecdsa-p256"
    certificate_seconds: int = DAY
    token_seconds: int = 3600
    renewal_seconds: int = 30 * DAY
    outside: tuple[Authority, ...] = ()
    issuers: tuple[Issuer, ...] = ()

    def domain_of(self, tenant: str, *, home: bool) -> str:
        """Return a tenant's trust domain."""
        return self.trust_domain if home else f"{tenant.replace('_', '-')}.{self.trust_domain}"
