"""Tables of people: their authenticators, recovery codes, invitations and memberships of roles.

No row is ever deleted: who could sign as whom, and since when, must be answerable years later.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from keyclave.store.columns import metadata, one_of, only_where, principal_name

KINDS = ("passkey", "key", "totp", "recovery", "password")

authenticators = Table(
    "authenticators",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(40), nullable=False),
    Column("principal", principal_name(128), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("label", String(128), nullable=False),
    Column("public", LargeBinary),  # COSE of a passkey, DER SubjectPublicKeyInfo of a key
    Column("handle", LargeBinary, unique=True),  # the credential id of a passkey
    Column("sealed", LargeBinary),  # seed of a code generator, hash of a password: sealed with the tenant's operational key
    Column("aal", Integer, nullable=False),
    Column("aaguid", String(36), nullable=False),
    Column("backup_eligible", Boolean, nullable=False),
    Column("sign_count", BigInteger, nullable=False),  # last count of a passkey, last time step of a code generator
    Column("failures", Integer, nullable=False),  # in a row; a success sets it back
    Column("enrolled_at", BigInteger, nullable=False),
    Column("event", String(64)),  # of the enrolment: what an approval's bundle proves it with
    Column("used_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("revoked_why", String(32)),
    ForeignKeyConstraint(["tenant", "principal"], ["principals.tenant", "principals.name"]),
    CheckConstraint(one_of("kind", KINDS), name="kind"),
    CheckConstraint("aal BETWEEN 1 AND 3", name="aal"),
    CheckConstraint("aal < 3 OR NOT backup_eligible", name="synced_is_never_the_highest"),
    CheckConstraint("(kind IN ('passkey', 'key')) = (public IS NOT NULL)", name="public"),
    CheckConstraint("(kind = 'passkey') = (handle IS NOT NULL)", name="handle"),
    CheckConstraint("(kind IN ('totp', 'password')) = (sealed IS NOT NULL)", name="sealed"),
    CheckConstraint("(revoked_at IS NULL) = (revoked_why IS NULL)", name="revoked_for_a_reason"),
    Index("ix_authenticators_principal", "tenant", "principal"),
)

recovery_codes = Table(
    "recovery_codes",
    metadata,
    Column("authenticator", String(40), nullable=False),
    Column("digest", LargeBinary, primary_key=True),
    Column("used_at", BigInteger),
    ForeignKeyConstraint(["authenticator"], ["authenticators.id"]),
    CheckConstraint("length(digest) = 32", name="digest"),
)

invitations = Table(
    "invitations",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(40), nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("principal", principal_name(128), nullable=False),
    Column("role", String(16), nullable=False),
    Column("roles", Text, nullable=False),  # further roles, a JSON list of names
    Column("invited_by", principal_name(128), nullable=False),
    Column("invited_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("confirmed_by", principal_name(128)),  # the second person, or the id of the approval
    Column("confirmed_at", BigInteger),
    Column("used_at", BigInteger),
    Column("revoked_at", BigInteger),
    CheckConstraint("confirmed_by <> invited_by", name="by_two"),
    CheckConstraint("principal <> invited_by AND principal <> confirmed_by", name="not_oneself"),
    CheckConstraint("(confirmed_by IS NULL) = (confirmed_at IS NULL)", name="confirmed"),
    CheckConstraint("used_at IS NULL OR confirmed_at IS NOT NULL", name="used_once_confirmed"),
    CheckConstraint("role <> 'application'", name="people"),
    Index("ix_invitations_tenant", "tenant"),
)

memberships = Table(
    "memberships",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(40), nullable=False),
    Column("principal", principal_name(128), nullable=False),
    Column("role", String(128), nullable=False),
    Column("given_by", principal_name(128), nullable=False),
    Column("given_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    ForeignKeyConstraint(["tenant", "principal"], ["principals.tenant", "principals.name"]),
    CheckConstraint("given_by <> principal", name="not_by_oneself"),
    Index(
        "one_membership",
        "tenant",
        "principal",
        "role",
        unique=True,
        **only_where("ended_at IS NULL"),
    ),
)

APPEND_ONLY: tuple[str, ...] = ()
UNDYING: tuple[str, ...] = ("authenticators", "recovery_codes", "invitations", "memberships")
