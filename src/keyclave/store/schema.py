"""The schema, once, for every engine. Invariants that must never be broken stand here as constraints and triggers.

Times are whole microseconds since the epoch. Material is only ever stored sealed; what a caller may list stands in other
columns. Rows of the log are append-only by trigger: not even the server's own connection can change or delete one.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from keyclave.identity.roles import Role
from keyclave.keys.model import Stale
from keyclave.keys.states import GONE, State
from keyclave.store import moment_tables, node_tables
from keyclave.store.access import (
    act_tables,
    approval_tables,
    grant_tables,
    people_tables,
    policy_tables,
    session_tables,
    share_tables,
    workload_tables,
)
from keyclave.store.columns import Serial, metadata, one_of, only_where, principal_name

_ROOMS = (
    policy_tables, approval_tables, people_tables, session_tables, workload_tables, grant_tables, act_tables, share_tables,
    node_tables, moment_tables,
)  # fmt: skip

_GONE = one_of("state", sorted(s.value for s in GONE))

meta = Table(
    "meta",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

tenants = Table(
    "tenants",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("home", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

tenant_keys = Table(
    "tenant_keys",
    metadata,
    Column("tenant", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("duty", String(16), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "duty"),
    CheckConstraint(one_of("duty", ["operational", "archive", "context"]), name="duty"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("name", String(128), nullable=False),
    Column("spec", String(32), nullable=False),
    Column("purpose", String(16), nullable=False),
    Column("owner", String(128), nullable=False),
    Column("environment", String(128), nullable=False),
    Column("classification", String(128), nullable=False),
    Column("location", String(32), nullable=False),
    Column("tags", Text, nullable=False),
    Column("cryptoperiod", Text, nullable=False),
    Column("rotation", Text, nullable=True),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", principal_name(128), nullable=False),
    Column("rev", Integer, nullable=False),
    Column("stale", String(8), nullable=False, server_default=Stale.NEVER.value),
    Column("made_in", String(64)),  # the event, if a person made it: an act, which has no other row
    UniqueConstraint("tenant", "name"),
    CheckConstraint("rev >= 1", name="rev"),
    CheckConstraint(one_of("stale", [s.value for s in Stale]), name="stale"),
    Index("ever_stale", "id", **only_where("stale <> 'never'")),
)

key_versions = Table(
    "key_versions",
    metadata,
    Column("key_id", String(40), ForeignKey("keys.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("is_primary", Boolean, nullable=False),
    Column("state", String(24), nullable=False),
    Column("origin", String(16), nullable=False),
    Column("kcv", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("activated_at", BigInteger),
    Column("suspended_at", BigInteger),
    Column("deactivated_at", BigInteger),
    Column("archived_at", BigInteger),
    Column("compromised_at", BigInteger),
    Column("destroy_at", BigInteger),
    Column("destroy_by", principal_name(128)),
    Column("destroyed_at", BigInteger),
    Column("public", LargeBinary),
    Column("sealed", LargeBinary),
    Column("used", BigInteger, nullable=False, server_default="0"),
    PrimaryKeyConstraint("key_id", "number"),
    CheckConstraint("number >= 1", name="number"),
    CheckConstraint(one_of("state", [s.value for s in State]), name="state"),
    CheckConstraint(one_of("origin", ["generated", "imported"]), name="origin"),
    CheckConstraint(f"({_GONE}) = (sealed IS NULL)", name="gone_has_no_material"),
    CheckConstraint(f"({_GONE}) = (destroyed_at IS NOT NULL)", name="gone_has_its_date"),
    CheckConstraint("(destroy_at IS NULL) = (destroy_by IS NULL)", name="scheduled_by_somebody"),
    CheckConstraint("state <> 'active' OR activated_at IS NOT NULL", name="active_has_its_date"),
    Index("one_primary_version", "key_id", unique=True, **only_where("is_primary = 1", "is_primary")),
    sqlite_with_rowid=False,  # a version is asked for by its key and number, and lies where the index says
)

principals = Table(
    "principals",
    metadata,
    Column("tenant", String(40), ForeignKey("tenants.id"), nullable=False),
    Column("name", principal_name(128), nullable=False),
    Column("role", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("kind", String(8), nullable=False, server_default="person"),
    Column("disabled_at", BigInteger),
    PrimaryKeyConstraint("tenant", "name"),  # one row, one role: separation of duties, kept by the schema
    CheckConstraint(one_of("role", [r.value for r in Role]), name="role"),
    CheckConstraint(one_of("kind", ["person", "workload"]), name="kind"),
)

credentials = Table(
    "credentials",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(40), nullable=False),
    Column("principal", principal_name(128), nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("scope", Text, nullable=True),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", principal_name(128), nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger, nullable=True),
    Index("ix_credentials_tenant", "tenant"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant", String(40), nullable=False),
    Column("principal", principal_name(128), nullable=False),
    Column("key", String(128), nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("response", LargeBinary, nullable=False),  # sealed under the tenant's key: an answer may hold a new token
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "principal", "key"),
    Index("ix_idempotency_created_at", "created_at"),
)

segments = Table(
    "segments",
    metadata,
    Column("first", Serial, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("entries", LargeBinary),  # each entry behind its uint16 length: a piece of C2SP entry bundle; NULL: see the journal
    Column("node", String(16)),  # in whose journal, and from which number on, the entries lie
    Column("node_first", BigInteger),
    CheckConstraint("count >= 1", name="count"),
    CheckConstraint("entries IS NOT NULL OR node IS NOT NULL", name="lies_somewhere"),
    CheckConstraint("(node IS NULL) = (node_first IS NULL)", name="from_a_number_on"),
    Index(
        "one_place_for_each", "node", "node_first", unique=True,
        **only_where("node IS NOT NULL"),
    ),
)  # fmt: skip

log_tiles = Table(
    "log_tiles",
    metadata,
    Column("level", Integer, nullable=False),
    Column("number", Serial, nullable=False),
    Column("hashes", LargeBinary, nullable=False),  # 256 hashes of 32 bytes: only full tiles are kept
    PrimaryKeyConstraint("level", "number"),
    CheckConstraint("length(hashes) = 8192", name="full"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("size", Serial, primary_key=True),
    Column("root", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

APPEND_ONLY = ("segments", "log_tiles", "checkpoints", *(table for room in _ROOMS for table in room.APPEND_ONLY))
UNDYING = (
    "keys", "key_versions", "credentials", "principals", "tenants",
    *(table for room in _ROOMS for table in room.UNDYING),
)  # fmt: skip
"""Tables whose rows are never deleted: the history of a destroyed key outlives it."""

AS_MADE = {"keys": ("id", "tenant", "created_at", "created_by", "made_in"), "key_versions": ("key_id", "number", "origin")}
"""What says who made a key, when and how: duties are kept apart by it."""
HOW_MADE = "how it was made is not changed"


def changed(columns: Iterable[str], differs: str) -> str:
    """Return the condition of an UPDATE that changes one of these; `differs` is the engine's comparison that knows NULL."""
    return " OR ".join(f"NEW.{column} {differs} OLD.{column}" for column in columns)


def sqlite_guards() -> list[str]:
    """Return the triggers that keep the log append-only and tombstones in place, for SQLite."""
    guards = [_refusing(table, verb, "is append-only") for table in APPEND_ONLY for verb in ("UPDATE", "DELETE")]
    guards += [_refusing(table, "DELETE", "keeps its history") for table in UNDYING]
    gone = ", ".join(sorted(f"'{s.value}'" for s in GONE))
    guards.append(
        "CREATE TRIGGER key_versions_stay_gone BEFORE UPDATE OF state, sealed ON key_versions "
        f"WHEN OLD.state IN ({gone}) AND (NEW.state NOT IN ({gone}) OR NEW.sealed IS NOT NULL) "
        "BEGIN SELECT RAISE(ABORT, 'a destroyed version stays destroyed'); END"
    )
    guards.append(
        "CREATE TRIGGER keys_remember_stale BEFORE UPDATE OF stale ON keys WHEN NEW.stale = 'never' AND OLD.stale <> 'never' "
        "BEGIN SELECT RAISE(ABORT, 'that stale use was allowed once is not forgotten'); END"
    )
    guards += [
        f"CREATE TRIGGER {table}_stay_as_made BEFORE UPDATE OF {', '.join(columns)} ON {table} "
        f"WHEN {changed(columns, 'IS NOT')} BEGIN SELECT RAISE(ABORT, '{HOW_MADE}'); END"
        for table, columns in AS_MADE.items()
    ]
    guards += approval_tables.sqlite_guards()
    guards += node_tables.sqlite_guards()
    guards.append(
        "CREATE TRIGGER segments_no_gap BEFORE INSERT ON segments "
        "WHEN NEW.first <> coalesce((SELECT first + count FROM segments ORDER BY first DESC LIMIT 1), 0) "
        "BEGIN SELECT RAISE(ABORT, 'segments leave no gap'); END"
    )
    return guards


def _refusing(table: str, verb: str, why: str) -> str:
    return f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, '{table} {why}'); END"
