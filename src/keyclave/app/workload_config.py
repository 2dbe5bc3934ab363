"""From keyclave.toml to what operations know of workloads: bundles read, names checked, tenants found.

An authority speaks for one thing. Two that share a certificate, or one of somebody else that claims a tenant's own trust domain,
stop the start: either could name the other's workloads.
"""

from __future__ import annotations

from pathlib import Path

from keyclave.app.config import Config, OutsideAuthority, TokenIssuer
from keyclave.core.errors import Malformed
from keyclave.crypto.x509 import certificates_in
from keyclave.identity.certificates import Authority, Naming
from keyclave.identity.spiffe import check_domain
from keyclave.identity.workload_tokens import Issuer, check_issuer
from keyclave.operations.workloads.settings import DAY, WorkloadSettings
from keyclave.store import tenant_rows
from keyclave.store.interface import Store


def workload_settings(config: Config, home: Path, store: Store) -> WorkloadSettings:
    """Return the settings, or raise `Malformed` with the place and what to do."""
    section = config.workloads
    domain = section.trust_domain or config.log.origin.partition("/")[0].lower()
    check_domain(domain)
    tenants = {"home": store.read(tenant_rows.home_tenant)}
    settings = WorkloadSettings(
        trust_domain=domain,
        spec=section.authority_key,
        certificate_seconds=section.certificate_seconds,
        token_seconds=section.token_seconds,
        renewal_seconds=section.renewal_days * DAY,
        outside=tuple(_authority(one, home, tenants) for one in section.authorities),
        issuers=tuple(_issuer(one, tenants, domain) for one in section.issuers),
    )
    _check_apart(settings)
    return settings


def _authority(one: OutsideAuthority, home: Path, tenants: dict[str, str]) -> Authority:
    if (one.naming is Naming.SPIFFE) != bool(one.trust_domain):
        raise Malformed(f"authority {one.label}: trust_domain goes with naming = spiffe", "give both or neither")
    if one.trust_domain:
        check_domain(one.trust_domain)
    try:
        anchors = certificates_in((home / one.bundle).read_bytes())
    except OSError as fault:
        raise Malformed(f"authority {one.label}: {one.bundle}: {fault.strerror}", "name a PEM file that can be read") from None
    return Authority(
        label=one.label,
        tenant=tenants.get(one.tenant, one.tenant),
        naming=one.naming,
        anchors=anchors,
        domain=one.trust_domain,
    )


def _issuer(one: TokenIssuer, tenants: dict[str, str], domain: str) -> Issuer:
    if bool(one.keys_file) == bool(one.keys_url) or (one.keys_url and not one.keys_url.startswith("https://")):
        raise Malformed(f"issuer {one.label}: its keys are in one place", "give keys_file, or keys_url with https")
    issuer = Issuer(
        label=one.label,
        tenant=tenants.get(one.tenant, one.tenant),
        issuer=one.issuer,
        audience=one.audience,
        domain=one.trust_domain or domain,
        path=one.path,
        kind=one.kind,
        algorithms=one.algorithms,
    )
    check_issuer(issuer)
    return issuer


def _check_apart(settings: WorkloadSettings) -> None:
    labels = [one.label for one in settings.outside] + [one.label for one in settings.issuers]
    if len(set(labels)) != len(labels) or "keyclave" in labels:
        raise Malformed("two authorities or issuers have one label", "give each its own, and none the label keyclave")
    anchors = [anchor for one in settings.outside for anchor in one.anchors]
    if len(set(anchors)) != len(anchors):
        raise Malformed("two authorities share a certificate", "an authority speaks for one trust domain only")
    for one in settings.outside:
        if one.domain == settings.trust_domain or one.domain.endswith("." + settings.trust_domain):
            raise Malformed(f"authority {one.label} claims this server's trust domain", "give it, or the server, another one")
