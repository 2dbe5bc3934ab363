"""Workloads: who may call by a certificate, tokens to enrol with, certificates, and what others need to check them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from keyclave_client import views
from keyclave_client.answers import decode
from keyclave_client.calls import Calls
from keyclave_client.transport import Request


class Workloads(Calls):
    """Registering workloads and everything about their certificates."""

    def register_workload(
        self, name: str, scope: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> views.Workload:  # fmt: skip
        """Register a workload by the name its certificate gives it; a SPIFFE ID with `/*` behind it covers all below."""
        body = {"name": name, "scope": scope}
        return decode(views.Workload, self._change("POST", "/v1/workloads", body, idempotency_key=idempotency_key))

    def update_workload(
        self, workload: str, *, scope: Mapping[str, Any] | None = None, enabled: bool | None = None, reason: str | None = None
    ) -> views.Workload:
        """Give a workload another scope, disable it, or enable it again; its bound tokens end with either."""
        body = {"scope": scope, "enabled": enabled, "reason": reason}
        return decode(views.Workload, self._change("PATCH", f"/v1/workloads/{quote(workload, safe='')}", body))

    def list_workloads(self) -> Iterator[views.Workload]:
        """Yield the tenant's workloads."""
        for item in self._pages("/v1/workloads", "workloads", {}):
            yield decode(views.Workload, item)

    def create_enrolment(
        self, name: str, *, uses: int = 1, ttl_seconds: int = 3600, idempotency_key: str | None = None
    ) -> views.Enrolment:
        """Make a token for certificates of `name`; it is in this answer and nowhere else, ever."""
        body = {"name": name, "uses": uses, "ttl_seconds": ttl_seconds}
        return decode(views.Enrolment, self._change("POST", "/v1/enrolments", body, idempotency_key=idempotency_key))

    def list_enrolments(self) -> Iterator[views.Enrolment]:
        """Yield the tenant's enrolments, without their tokens."""
        for item in self._pages("/v1/enrolments", "enrolments", {}):
            yield decode(views.Enrolment, item)

    def revoke_enrolment(self, enrolment: str, reason: str | None = None) -> views.Enrolment:
        """Revoke an enrolment: when this returns, nothing more is issued against it."""
        path = f"/v1/enrolments/{quote(enrolment, safe='')}/revoke"
        return decode(views.Enrolment, self._change("POST", path, {"reason": reason}))

    def issue_certificate(
        self, csr: str, *, ttl_seconds: int | None = None, idempotency_key: str | None = None
    ) -> views.Certificate:
        """Get a certificate for a request (PKCS #10, PEM) as whoever calls: an enrolment token, an issuer's, a certificate."""
        body = {"csr": csr, "ttl_seconds": ttl_seconds}
        return decode(views.Certificate, self._change("POST", "/v1/certificates", body, idempotency_key=idempotency_key))

    def list_certificates(self, name: str | None = None) -> Iterator[views.Certificate]:
        """Yield certificates that were issued, perhaps to one workload only."""
        for item in self._pages("/v1/certificates", "certificates", {"name": name}):
            yield decode(views.Certificate, item)

    def revoke_certificate(self, certificate: str, reason: str | None = None, *, outside: bool = False) -> views.Certificate:
        """Revoke a certificate: when this returns it opens nothing. `outside`: it is one of another authority."""
        path = f"/v1/certificates/{quote(certificate, safe='')}/revoke"
        return decode(views.Certificate, self._change("POST", path, {"reason": reason, "outside": outside or None}))

    def renew_authority(self) -> views.Authority:
        """Make the tenant's next certificate authority; those before are believed until they end."""
        return decode(views.Authority, self._change("POST", "/v1/authority/renew", {}))

    def issue_bound_token(self, ttl_seconds: int = 900) -> views.Credential:
        """Get a token that opens nothing without the certificate of this connection (RFC 8705)."""
        return decode(views.Credential, self._change("POST", "/v1/tokens", {"ttl_seconds": ttl_seconds}))

    def renew_credential(self, *, idempotency_key: str | None = None) -> views.Credential:
        """Carry the credential of this client on: a new token with the same scope. The one before ends within a minute."""
        return decode(views.Credential, self._change("POST", "/v1/credentials/renew", {}, idempotency_key=idempotency_key))

    def revocation_list(self, authority: str | None = None) -> bytes:
        """Return the certificate revocation list (DER); no credential needed."""
        path = "/v1/crl" + (f"/{quote(authority, safe='')}" if authority else "")
        return self._transport.send(Request("GET", path, repeatable=True)).content

    def authority_bundle(self, tenant: str | None = None) -> str:
        """Return the certificates (PEM) under which a tenant's workloads stand; no credential needed."""
        query = {"tenant": tenant} if tenant else None
        return self._transport.send(Request("GET", "/v1/authority", query=query, repeatable=True)).content.decode()
