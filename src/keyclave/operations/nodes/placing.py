"""In which order the sequencer gives places to what the nodes have kept in their journals.

A journal's own order is kept, always. Between journals the rows of one look are merged by the time of their first events, and by
the nodes' names where those are equal. What has a place never gets another one.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from keyclave.core.errors import Broken


class Row(NamedTuple):
    """A row of a journal, dated from `at` to `latest`: what took long stands behind what came after it."""

    node: str
    first: int
    number: int  # of its events
    at: int
    entries: list[bytes]
    latest: int


def in_order(rows: Iterable[Row], placed: Mapping[str, int]) -> list[Row]:
    """Return the rows in the order of their places. `placed` says for each node how many of its events have one.

    A row that does not follow on its predecessor is `Broken`: a journal without a gap cannot show one, so what was read is not
    what was kept.
    """
    journals: dict[str, list[Row]] = {}
    for row in rows:
        mine = journals.setdefault(row.node, [])
        expected = mine[-1].first + mine[-1].number if mine else placed.get(row.node, 0)
        if row.first != expected:
            raise Broken(
                f"the journal of {row.node} goes on at {row.first}, and {expected} was to come",
                "keep the database as evidence, and verify an export",
            )
        mine.append(row)
    return list(heapq.merge(*(_never_back(journal) for journal in journals.values()), key=_when))


def _never_back(journal: list[Row]) -> list[Row]:
    """Date each row no earlier than those before it: a merge takes the journals as sorted, and one clock may have gone back."""
    latest = 0
    dated = []
    for row in journal:
        latest = max(latest, row.at)
        dated.append(row._replace(at=latest))
    return dated


def _when(row: Row) -> tuple[int, str]:
    return row.at, row.node
