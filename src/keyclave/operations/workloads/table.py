"""The operations of workloads."""

from __future__ import annotations

from keyclave.identity.peer import Plane
from keyclave.operations.credentials import IssuedCredential
from keyclave.operations.forms import Empty
from keyclave.operations.operation import Operation, always
from keyclave.operations.workloads import authority, bound, certificates, enrolments, register

OPERATIONS: list[Operation] = [
    Operation(
        "workload-register", "POST", "/v1/workloads", register.RegisterRequest, register.WorkloadView,
        "Register a workload and what it may do.", register.register, changes=True, status=201, needs_root=False,
    ),
    Operation(
        "workload-update", "PATCH", "/v1/workloads/{workload}", register.WorkloadUpdate, register.WorkloadView,
        "Change a workload's scope, disable it, or enable it again.", register.update, changes=True, needs_root=False,
    ),
    Operation(
        "workload-list", "GET", "/v1/workloads", None, register.WorkloadPage, "List workloads.", register.list_workloads,
        query=register.WorkloadQuery, needs_root=False, slow=always,
    ),
    Operation(
        "authority-renew", "POST", "/v1/authority/renew", Empty, authority.AuthorityView,
        "Make the authority that issues from now on; those before are believed until they end.", authority.renew,
        changes=True, status=201, slow=always,
    ),
    Operation(
        "enrolment-create", "POST", "/v1/enrolments", enrolments.EnrolmentRequest, enrolments.NewEnrolment,
        "Make a token against which a workload gets its first certificate; it is shown once.", enrolments.create,
        changes=True, status=201, slow=always,
    ),
    Operation(
        "enrolment-list", "GET", "/v1/enrolments", None, enrolments.EnrolmentPage, "List enrolments.",
        enrolments.list_enrolments, query=enrolments.EnrolmentQuery, needs_root=False, slow=always,
    ),
    Operation(
        "enrolment-revoke", "POST", "/v1/enrolments/{enrolment}/revoke", enrolments.EnrolmentRevoke, enrolments.EnrolmentView,
        "Revoke an enrolment: nothing more is issued against it.", enrolments.revoke, changes=True, needs_root=False,
    ),
    Operation(
        "certificate-issue", "POST", "/v1/certificates", certificates.CertificateRequest, certificates.NewCertificate,
        "Issue a short-lived certificate against an enrolment token, an issuer's token, or a live certificate of this server.",
        certificates.issue, changes=True, status=201, slow=always, plane=Plane.BOTH,
    ),
    Operation(
        "certificate-list", "GET", "/v1/certificates", None, certificates.CertificatePage, "List issued certificates.",
        certificates.list_certificates, query=certificates.CertificateQuery, needs_root=False, slow=always,
    ),
    Operation(
        "certificate-revoke", "POST", "/v1/certificates/{certificate}/revoke", certificates.CertificateRevoke,
        certificates.CertificateView, "Revoke a certificate: once answered, it opens nothing.", certificates.revoke,
        changes=True, needs_root=False,
    ),
    Operation(
        "bound-token-issue", "POST", "/v1/tokens", bound.BoundTokenRequest, IssuedCredential,
        "Issue a token that opens nothing without the caller's certificate.", bound.issue_bound, changes=True, status=201,
        needs_root=False, plane=Plane.BOTH,
    ),
    Operation(
        "credential-renew", "POST", "/v1/credentials/renew", Empty, IssuedCredential,
        "Carry the caller's own credential on, while policy allows.", bound.renew, changes=True, status=201, needs_root=False,
        plane=Plane.BOTH,
    ),
]  # fmt: skip
