"""The roles, and the one rule of separation: a principal holds one role (R10).

Custody (custodian), running (operator), watching (auditor) and using (application) are four duties no two of which one person
may hold, so the rule needs no table of pairs; the schema keeps it too (one row per principal).
"""

from __future__ import annotations

from enum import StrEnum

from keyclave.core.errors import SelfConflict


class Role(StrEnum):
    """What a principal is here for."""

    CUSTODIAN = "custodian"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    APPLICATION = "application"
    BREAK_GLASS = "break-glass"
    PERSON = "person"


SHARE_HOLDER = "share-holder"
"""What rules call whoever holds a share of the root's recovery key. It is given by naming them, and by nothing else."""


def check_assignment(principal: str, held: Role | None, wanted: Role) -> None:
    """Refuse to give `principal` a second duty."""
    if held is not None and held is not wanted:
        raise SelfConflict(
            f"{principal} already is {held.value} and cannot also be {wanted.value}",
            "give the duty to another person, or issue the credential for the role they hold",
        )
