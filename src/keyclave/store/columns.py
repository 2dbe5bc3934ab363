"""What every table is made with: the names of constraints, whole numbers that serve as row ids, closed lists of words."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import BigInteger, Integer, MetaData

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


def one_of(column: str, values: Iterable[str]) -> str:
    """Return the CHECK that keeps `column` to a closed list."""
    return f"{column} IN ({', '.join(repr(v) for v in values)})"
