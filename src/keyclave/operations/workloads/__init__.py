"""Workloads: whom a certificate or token names, the tenants' own certificate authorities, enrolment, renewal, revocation."""
