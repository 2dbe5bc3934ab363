"""key-update: what is said of a key changes; what it is does not (spec, purpose and name are fixed for life)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection

from keyclave.core.errors import Malformed
from keyclave.crypto.suites import Purpose
from keyclave.keys.model import Cryptoperiod, Key, Rotation, Stale
from keyclave.keys.periods import checked
from keyclave.operations.attempt import Attempt
from keyclave.operations.create_key import Tags, check_stale
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Reason, Request, Text
from keyclave.operations.key_view import KeyView, view
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.moves import expect_revision
from keyclave.store import key_rows


class UpdateRequest(Request, kw_only=True):
    """Only the fields that are sent change; a cryptoperiod other than before, and allowing stale use, need a reason (R27)."""

    owner: Text | UnsetType = UNSET
    environment: Text | UnsetType = UNSET
    classification: Text | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    cryptoperiod: Cryptoperiod | UnsetType = UNSET
    rotation: Rotation | UnsetType | None = UNSET
    stale_ok: bool | UnsetType = UNSET
    reason: Reason = ""


def update_key(_desk: Desk, attempt: Attempt, key: LoadedKey, request: UpdateRequest) -> Callable[[Connection], KeyView]:
    """Change the description of a key."""
    before = key.key
    expect_revision(attempt, before)
    changes: dict[str, Any] = {
        name: value for name, value in msgspec.structs.asdict(request).items() if name != "reason" and value is not UNSET
    }
    if not changes:
        raise Malformed("nothing to change was sent", "send at least one field")
    if "cryptoperiod" in changes:
        checked(changes["cryptoperiod"])
        if not request.reason:
            raise Malformed("another cryptoperiod needs a reason", "say which risk decision it follows")
    if "tags" in changes:
        changes["tags"] = dict(sorted(changes["tags"].items()))
    attempt.reason, attempt.detail = request.reason, {"fields": ",".join(sorted(changes))}
    if request.stale_ok is not UNSET:
        attempt.detail["stale_ok"] = int(request.stale_ok)
        changes["stale"] = _stale(before, request, changes.pop("stale_ok"))
    now = msgspec.structs.replace(before, **changes)

    def change(transaction: Connection) -> KeyView:
        return view(key_rows.update_key(transaction, before, now))

    return change


def _stale(key: Key, request: UpdateRequest, wanted: bool) -> Stale:
    """Return what the key allows of nodes that are cut off. To allow it is a decision about a risk, so it has a reason."""
    if wanted:
        check_stale(Purpose(key.purpose))
        if not request.reason:
            raise Malformed("allowing stale use needs a reason", "say which risk decision it follows")
    return key.allowing_stale(wanted)
