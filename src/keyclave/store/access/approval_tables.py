"""Tables of requests for approval and what each approver signed.

What was asked never changes: a guard of the schema keeps it. A request ends once; a signature is only ever added.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from keyclave.store.columns import metadata, one_of, principal_name

ENDS = ("executed", "denied", "withdrawn")

approvals = Table(
    "approvals",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("operation", String(40), nullable=False),
    Column("requester", principal_name(128), nullable=False),
    Column("canonical", LargeBinary, nullable=False),  # sealed: what is asked may name who may break the glass
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("requested_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("event", String(64), nullable=False),
    Column("ending", String(16)),
    Column("ended_at", BigInteger),
    Column("ended_by", principal_name(128)),
    Column("ended_why", Text),
    Column("ended_event", String(64)),
    Column("items_events", Text),  # of an execution: the ids of its items' events, a JSON list
    CheckConstraint("length(digest) = 32", name="digest"),
    CheckConstraint("expires_at > requested_at", name="window"),
    CheckConstraint(f"ending IS NULL OR {one_of('ending', ENDS)}", name="ending"),
    CheckConstraint("(ending IS NULL) = (ended_at IS NULL)", name="ended_at_a_time"),
    CheckConstraint("(ending IS NULL) = (ended_by IS NULL)", name="ended_by_somebody"),
    CheckConstraint("(ending IS NULL) = (ended_event IS NULL)", name="ended_with_its_event"),
    CheckConstraint("ending <> 'denied' OR ended_by <> requester", name="withdrawn_not_denied_by_the_requester"),
    CheckConstraint("ending <> 'withdrawn' OR ended_by = requester", name="withdrawn_by_the_requester"),
    Index("ix_approvals_tenant", "tenant", "id"),
)

signatures = Table(
    "approval_signatures",
    metadata,
    Column("approval", String(40), ForeignKey("approvals.id"), nullable=False),
    Column("approver", principal_name(128), nullable=False),
    Column("authenticator", String(40), nullable=False),
    Column("statement", Text, nullable=False),
    Column("proof", Text, nullable=False),  # {"signature": base64} of a key, the assertion's JSON of a passkey
    Column("signed_at", BigInteger, nullable=False),
    Column("event", String(64), nullable=False),
    PrimaryKeyConstraint("approval", "approver"),  # one person, one signature
)

APPEND_ONLY: tuple[str, ...] = ("approval_signatures",)
UNDYING: tuple[str, ...] = ("approvals",)


def sqlite_guards() -> list[str]:
    """Return the triggers that keep what was asked as it was asked, ended requests ended, and requesters from approving."""
    asked = "id, tenant, operation, requester, canonical, digest, requested_at, expires_at, event"
    return [
        f"CREATE TRIGGER approvals_stay_as_asked BEFORE UPDATE OF {asked} ON approvals "
        "BEGIN SELECT RAISE(ABORT, 'what was asked stays as it was asked'); END",
        "CREATE TRIGGER approvals_end_once BEFORE UPDATE ON approvals WHEN OLD.ending IS NOT NULL "
        "BEGIN SELECT RAISE(ABORT, 'a request for approval ends once'); END",
        "CREATE TRIGGER approval_signatures_of_others BEFORE INSERT ON approval_signatures "
        "WHEN EXISTS (SELECT 1 FROM approvals WHERE id = NEW.approval AND (requester = NEW.approver OR ending IS NOT NULL)) "
        "BEGIN SELECT RAISE(ABORT, 'others sign, and while it is open'); END",
    ]
