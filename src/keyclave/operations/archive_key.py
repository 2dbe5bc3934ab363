"""archive, recover: material moved under the tenant's archive key and back (SP 800-57 part 1, section 8.3.1).

The archive key is separate from the operational one, so that a leak of what runs does not open what is stored away.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from sqlalchemy import Connection

from keyclave.core.errors import Broken
from keyclave.keys.model import Key, Version, WrappedMaterial
from keyclave.keys.transitions import Move, moved
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.key_view import KeyView, view
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.moves import MoveRequest, MoveRun, chosen, expect_revision
from keyclave.store import key_rows


def rewrapping(name: Move) -> MoveRun:
    """Return the verb for archive or recover."""

    def run(desk: Desk, attempt: Attempt, key: LoadedKey, request: MoveRequest) -> Callable[[Connection], KeyView]:
        before = key.key
        expect_revision(attempt, before)
        numbers = chosen(before, name, request.version)
        materials = [_resealed(desk, before, number, archived=name is Move.ARCHIVE) for number in numbers]
        versions: list[Version] = [moved(v, name, attempt.at) if v.number in numbers else v for v in before.versions]
        now = msgspec.structs.replace(before, versions=tuple(versions))
        attempt.version, attempt.reason = numbers[0], request.reason
        attempt.detail = {"versions": ",".join(map(str, numbers))}

        def change(transaction: Connection) -> KeyView:
            kept = key_rows.update_key(transaction, before, now)
            for material in materials:
                key_rows.replace_material(transaction, material)
            return view(kept)

        return change

    return run


def _resealed(desk: Desk, key: Key, number: int, *, archived: bool) -> WrappedMaterial:
    found = desk.store.read(lambda conn: key_rows.read_material(conn, key.id, number))
    if found is None:
        raise Broken("a version that has material has none", "restore the database from a backup")
    with desk.keyring.open(key, found[0]) as slot:
        return desk.keyring.wrap(key, number, slot, archived=archived)
