"""rotate: a new version becomes primary; the one before only opens what it protected.

Independent re-keying, never key update: deriving the new key from the old is forbidden (SP 800-57 part 1, section 8.2.3.2).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from sqlalchemy import Connection

from keyclave.core.errors import WrongState
from keyclave.crypto.suites import KeySpec
from keyclave.keys.model import Key, Version
from keyclave.keys.states import State
from keyclave.keys.transitions import FIRST, Move, moved
from keyclave.operations.attempt import Attempt
from keyclave.operations.create_key import generate
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Reason, Request
from keyclave.operations.key_view import KeyView, view
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.moves import expect_revision
from keyclave.store import key_rows


class RotateRequest(Request, kw_only=True):
    """Why, if not because it is due."""

    reason: Reason = ""


def rotate_key(desk: Desk, attempt: Attempt, key: LoadedKey, request: RotateRequest) -> Callable[[Connection], KeyView]:
    """Generate the new version, supersede the old, in one change."""
    before = key.key
    expect_revision(attempt, before)
    if before.primary is None or before.versions[before.primary - 1].state is not State.ACTIVE:
        raise WrongState("only a key with an active primary version is rotated", "activate or resume it first")
    if before.versions[before.primary - 1].scheduled:
        raise WrongState("the primary version is scheduled for destruction", "cancel the destruction first")
    number = len(before.versions) + 1
    material, public = generate(desk, KeySpec(before.spec))
    with material:
        fresh = Version(
            number=number,
            state=FIRST,
            origin="generated",
            kcv=desk.module.key_check(material),
            created_at=attempt.at,
            public=public,
        )
        wrapped = desk.keyring.wrap(before, number, material)
    now = _rotated(before, moved(fresh, Move.ACTIVATE, attempt.at), attempt.at)
    attempt.version, attempt.reason = number, request.reason
    attempt.detail = {"from_version": before.primary}

    def change(transaction: Connection) -> KeyView:
        kept = key_rows.update_key(transaction, before, now)
        key_rows.insert_version(transaction, kept, kept.versions[-1], wrapped)
        return view(kept)

    return change


def _rotated(before: Key, fresh: Version, at: int) -> Key:
    versions = [moved(v, Move.SUPERSEDE, at) if v.number == before.primary else v for v in before.versions]
    return msgspec.structs.replace(before, versions=(*versions, fresh), primary=fresh.number)


def rotates_slowly(key: LoadedKey | None, _request: object) -> bool:
    """Tell whether making the new version would hold up the event loop."""
    return key is not None and KeySpec(key.key.spec).slow
