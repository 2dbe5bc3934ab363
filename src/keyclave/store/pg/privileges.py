"""Who may do what in the database: the servers' role reads and adds; it makes no table and changes no event.

The owner migrates (`keyclave migrate`). The servers log in as the role `keyclave_app`, or as members of it.
"""

from __future__ import annotations

from sqlalchemy import Connection

from keyclave.core.errors import Malformed
from keyclave.store import schema
from keyclave.store.columns import metadata

ROLE = "keyclave_app"
VERSION_TABLE = "alembic_version"
_ROLE_EXISTS = "SELECT 1 FROM pg_roles WHERE rolname = %s"
_MAY_MAKE_ROLES = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
_OWNS_DATABASE = (
    "SELECT current_database() FROM pg_database WHERE datname = current_database() AND pg_has_role(current_user, datdba, 'USAGE')"
)
_OTHER_COLLATION = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_collation k ON k.oid = a.attcollation
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND k.collname <> 'C'
ORDER BY c.relname, a.attnum"""


def permitted(table: str) -> str:
    """Return what the servers may do to a table."""
    verbs = ["SELECT", "INSERT"]
    if table not in schema.APPEND_ONLY:
        verbs.append("UPDATE")
        if table not in schema.UNDYING:
            verbs.append("DELETE")
    return ", ".join(verbs)


def grant(conn: Connection) -> None:
    """Give the servers' role what it needs, and nobody anything else."""
    known = conn.exec_driver_sql(_ROLE_EXISTS, (ROLE,)).first() is not None
    if not known and conn.exec_driver_sql(_MAY_MAKE_ROLES).scalar_one():
        conn.exec_driver_sql(f"CREATE ROLE {ROLE} NOLOGIN")
    elif not known:
        raise Malformed(
            f"the database server knows no role {ROLE}",
            f"as its administrator: CREATE ROLE {ROLE} LOGIN PASSWORD '…'; then run this again",
        )
    for everybody in ("PUBLIC", ROLE):
        conn.exec_driver_sql(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {everybody}")
        conn.exec_driver_sql(f"REVOKE ALL ON SCHEMA public FROM {everybody}")
    database = conn.exec_driver_sql(_OWNS_DATABASE).scalar_one_or_none()
    if database is not None:
        quoted = '"' + str(database).replace('"', '""') + '"'
        conn.exec_driver_sql(f"REVOKE ALL ON DATABASE {quoted} FROM PUBLIC")
        conn.exec_driver_sql(f"GRANT CONNECT ON DATABASE {quoted} TO {ROLE}")
    conn.exec_driver_sql(f"GRANT USAGE ON SCHEMA public TO {ROLE}")
    conn.exec_driver_sql(f"GRANT SELECT ON {VERSION_TABLE} TO {ROLE}")
    for table in metadata.sorted_tables:
        conn.exec_driver_sql(f"GRANT {permitted(table.name)} ON {table.name} TO {ROLE}")
    conn.exec_driver_sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {ROLE}")


def sort_by_bytes(conn: Connection) -> None:
    """Let every text column be sorted by its bytes, as SQLite does.

    The order of a page is then the same on every engine, and an index does not break when the system's locales are updated.
    """
    for table, column, kind in list(conn.exec_driver_sql(_OTHER_COLLATION)):
        if table != VERSION_TABLE:
            conn.exec_driver_sql(f'ALTER TABLE "{table}" ALTER COLUMN "{column}" TYPE {kind} COLLATE "C"')
