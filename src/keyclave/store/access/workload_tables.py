"""Tables of workloads: the internal authorities, workloads, enrolment tokens, certificates, what is bound to them, renewals.

A certificate's id is made from its thumbprint, so that one of an outside authority, of which no row is kept, can be blocked too.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from keyclave.store.columns import metadata, principal_name

authorities = Table(
    "authorities",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("number", Integer, nullable=False),  # the highest issues, the others are only believed
    Column("domain", String(255), nullable=False),
    Column("spec", String(16), nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", principal_name(128), nullable=False),
    Column("not_after", BigInteger, nullable=False),
    UniqueConstraint("tenant", "number"),
    CheckConstraint("number >= 1", name="number"),
)

workloads = Table(
    "workloads",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("name", String(2048), nullable=False),  # a name, or a SPIFFE ID that ends in /*
    Column("scope", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", principal_name(128), nullable=False),
    Column("disabled_at", BigInteger),
    UniqueConstraint("tenant", "name"),
)

enrolments = Table(
    "enrolments",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("name", String(2048), nullable=False),
    Column("uses", Integer, nullable=False),
    Column("used", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", principal_name(128), nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    CheckConstraint("uses >= 1 AND used BETWEEN 0 AND uses", name="never_more_than_its_uses"),
    CheckConstraint("length(digest) = 32", name="digest"),
)

certificates = Table(
    "certificates",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("authority", String(40), ForeignKey("authorities.id"), nullable=False),
    Column("serial", String(40), nullable=False),  # hex
    Column("thumbprint", LargeBinary, nullable=False, unique=True),
    Column("name", String(2048), nullable=False),
    Column("source", String(128), nullable=False),  # what it was issued against: an enrolment, a certificate, an issuer
    Column("not_before", BigInteger, nullable=False),
    Column("not_after", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    UniqueConstraint("authority", "serial"),
    CheckConstraint("length(thumbprint) = 32", name="thumbprint"),
)

blocked_certificates = Table(
    "blocked_certificates",
    metadata,
    Column("tenant", String(40), nullable=False),
    Column("id", String(40), nullable=False),
    Column("blocked_at", BigInteger, nullable=False),
    Column("blocked_by", principal_name(128), nullable=False),
    PrimaryKeyConstraint("tenant", "id"),
)

bindings = Table(
    "bindings",
    metadata,
    Column("credential", String(40), ForeignKey("credentials.id"), primary_key=True),
    Column("thumbprint", LargeBinary, nullable=False),
    Column("certificate", String(40), nullable=False),
    CheckConstraint("length(thumbprint) = 32", name="thumbprint"),
)

renewals = Table(
    "renewals",
    metadata,
    Column("credential", String(40), ForeignKey("credentials.id"), primary_key=True),  # the new one
    Column("renewed", String(40), ForeignKey("credentials.id"), nullable=False, unique=True),  # each is renewed once
    Column("first_at", BigInteger, nullable=False),  # when the first of the row was issued: its whole life is counted from there
)

APPEND_ONLY: tuple[str, ...] = ("blocked_certificates", "bindings", "renewals")
UNDYING: tuple[str, ...] = ("authorities", "workloads", "enrolments", "certificates")
