"""The guards of the schema in PostgreSQL's own language: the same as SQLite's, and against TRUNCATE as well.

They raise SQLSTATE 23000 (integrity constraint violation), so that what breaks one looks to the server like any broken rule. They
fire `ALWAYS`: also where a session plays the part of a replica, which skips ordinary triggers.
"""

from __future__ import annotations

from dataclasses import dataclass

from keyclave.keys.states import GONE
from keyclave.store import schema

_RAISE = "RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation'"
_CHECKING = "BEGIN IF {} THEN " + _RAISE + "; END IF; RETURN NEW; END"

FUNCTIONS = {
    "keyclave_refuse": "BEGIN " + _RAISE + "; END",
    "keyclave_segments_no_gap": _CHECKING.format(
        "NEW.first <> coalesce((SELECT s.first + s.count FROM segments s ORDER BY s.first DESC LIMIT 1), 0)"
    ),
    "keyclave_journal_no_gap": _CHECKING.format(
        "NEW.first <> coalesce("
        "(SELECT j.first + j.count FROM journal j WHERE j.node = NEW.node ORDER BY j.first DESC LIMIT 1), 0)"
    ),
    "keyclave_signed_by_others": _CHECKING.format(
        "EXISTS (SELECT 1 FROM approvals a WHERE a.id = NEW.approval AND (a.requester = NEW.approver OR a.ending IS NOT NULL))"
    ),
}
_ASKED = "id, tenant, operation, requester, canonical, digest, requested_at, expires_at, event"


@dataclass(frozen=True)
class Guard:
    """One trigger: on which table, when, and what it says when it refuses."""

    name: str
    table: str
    when: str  # BEFORE …
    each: str  # ROW or STATEMENT
    why: str
    condition: str = ""
    function: str = "keyclave_refuse"

    def statements(self) -> list[str]:
        """Return what makes it, or makes it again."""
        condition = f" WHEN ({self.condition})" if self.condition else ""
        why = self.why.replace("'", "''")
        return [
            f"CREATE OR REPLACE TRIGGER {self.name} BEFORE {self.when} ON {self.table} FOR EACH {self.each}{condition} "
            f"EXECUTE FUNCTION {self.function}('{why}')",
            f"ALTER TABLE {self.table} ENABLE ALWAYS TRIGGER {self.name}",
        ]


def guards() -> list[Guard]:
    """Return every guard, in a fixed order."""
    gone = ", ".join(sorted(f"'{s.value}'" for s in GONE))
    made = [
        Guard(f"{table}_no_{verb.lower()}", table, verb, "STATEMENT", f"{table} is append-only")
        for table in schema.APPEND_ONLY
        for verb in ("UPDATE", "DELETE", "TRUNCATE")
    ]
    made += [
        Guard(f"{table}_no_{verb.lower()}", table, verb, "STATEMENT", f"{table} keeps its history")
        for table in schema.UNDYING
        for verb in ("DELETE", "TRUNCATE")
    ]
    return [
        *made,
        Guard(
            "key_versions_stay_gone", "key_versions", "UPDATE OF state, sealed", "ROW", "a destroyed version stays destroyed",
            f"OLD.state IN ({gone}) AND (NEW.state NOT IN ({gone}) OR NEW.sealed IS NOT NULL)",
        ),
        Guard(
            "keys_remember_stale", "keys", "UPDATE OF stale", "ROW", "that stale use was allowed once is not forgotten",
            "NEW.stale = 'never' AND OLD.stale <> 'never'",
        ),
        *(
            Guard(
                f"{table}_stay_as_made", table, f"UPDATE OF {', '.join(columns)}", "ROW", schema.HOW_MADE,
                schema.changed(columns, "IS DISTINCT FROM"),
            )
            for table, columns in schema.AS_MADE.items()
        ),
        Guard("approvals_stay_as_asked", "approvals", f"UPDATE OF {_ASKED}", "ROW", "what was asked stays as it was asked"),
        Guard("approvals_end_once", "approvals", "UPDATE", "ROW", "a request for approval ends once", "OLD.ending IS NOT NULL"),
        Guard(
            "approval_signatures_of_others", "approval_signatures", "INSERT", "ROW", "others sign, and while it is open",
            function="keyclave_signed_by_others",
        ),
        Guard("segments_no_gap", "segments", "INSERT", "ROW", "segments leave no gap", function="keyclave_segments_no_gap"),
        Guard("journal_no_gap", "journal", "INSERT", "ROW", "a journal leaves no gap", function="keyclave_journal_no_gap"),
    ]  # fmt: skip


def statements() -> list[str]:
    """Return what puts every guard in its place; it may be run again."""
    made = [
        # the path is fixed: nobody who may make objects elsewhere can put a table of the same name before ours
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp "
        f"AS $guard${body}$guard$"
        for name, body in FUNCTIONS.items()
    ]
    return [*made, *(statement for guard in guards() for statement in guard.statements())]
