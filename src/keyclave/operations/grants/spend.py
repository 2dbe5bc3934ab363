"""Using up counted grants: in the transaction that keeps the use's event, or the use did not happen.

The last use is given once, however many ask for it at the same moment: the row is changed only where enough uses are left, and
whoever finds too few is refused, answer and all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection

from keyclave.core.errors import Refused
from keyclave.store.access import grants

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt


def spend_grants(attempt: Attempt) -> None:
    """Have the counted grants that an attempt used spent with it, an item of a batch as one use."""
    attempt.end_item()
    used = attempt.used
    if not used:
        return

    def spend(transaction: Connection) -> None:
        for grant, number in used.items():
            over = grants.spend(transaction, grant, number, attempt.at)
            if over is None:
                raise Refused(
                    f"grant {grant} has fewer uses left than this takes, or has ended",
                    "ask whoever gave it for another; `keyclave grant list` shows what is left",
                )
            # whoever holds a grant that is used up is looked up anew: another of their rights may serve from now on
            attempt.drops = (*attempt.drops, *over)

    attempt.spends = (*attempt.spends, spend)
