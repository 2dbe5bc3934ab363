"""What every table is made with: names of constraints, row ids, names of principals, closed lists of words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import BigInteger, Integer, MetaData, String, text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Serial = BigInteger().with_variant(Integer, "sqlite")


def principal_name(length: int) -> String:
    """Return the type of a principal's name. SPIFFE IDs are up to 2048 bytes long; SQLite looks at no length at all."""
    return String(length).with_variant(String(2048), "postgresql")


def one_of(column: str, values: Iterable[str]) -> str:
    """Return the CHECK that keeps `column` to a closed list."""
    return f"{column} IN ({', '.join(repr(v) for v in values)})"


def only_where(condition: str, on_postgresql: str = "") -> dict[str, Any]:
    """Return what makes an index one of only those rows, on every engine."""
    return {"sqlite_where": text(condition), "postgresql_where": text(on_postgresql or condition)}
