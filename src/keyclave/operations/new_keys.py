"""Keys that are being made: described from the first moment (R13), and wrapped before they are kept.

A symmetric key waits for its group, like everything that is kept: those that wait for the same commit are generated, checked and
sealed in one go. The first of them that is kept has them all made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection

from keyclave.core.ids import AFTER_TIME, by_time, to_id
from keyclave.keys.model import Key, Stale, Version, WrappedMaterial
from keyclave.keys.periods import DEFAULTS
from keyclave.keys.transitions import FIRST, Move, moved
from keyclave.operations.answers import encode_answer
from keyclave.operations.key_view import KeyView, view
from keyclave.operations.keyring import material_context
from keyclave.store import key_rows

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt
    from keyclave.operations.create_key import CreateRequest, Description
    from keyclave.operations.desk import Desk
    from keyclave.store.insertions import Rows

Made = tuple[Key, WrappedMaterial]
NewKeys = dict["Attempt", "NewKey"]
"""Those that wait to be made, by what is to make them."""


class NewKey:
    """A symmetric key that an attempt is to make. Called again for the same attempt, it keeps the same key."""

    __slots__ = ("attempt", "desk", "made", "request")

    def __init__(self, desk: Desk, attempt: Attempt, request: CreateRequest) -> None:
        self.desk = desk
        self.attempt = attempt
        self.request = request
        self.made: Made | None = None
        desk.new_keys[attempt] = self

    def keep(self, transaction: Connection) -> KeyView:
        """Insert its rows."""
        return keep(transaction, *self._take())

    def add(self, rows: Rows) -> None:
        """Let its rows wait; the answer is written once they are kept."""
        key_rows.add_key(rows, *self._take())
        self.attempt.later = self._write

    def _write(self, event: str) -> bytes:
        assert self.made is not None  # noqa: S101
        answer = self.attempt.answer = view(self.made[0])
        answer.event = event
        return encode_answer(answer)

    def _take(self) -> Made:
        if self.made is None:
            waiting, self.desk.new_keys = self.desk.new_keys, {}
            waiting[self.attempt] = self
            _make(self.desk, list(waiting.values()))
        assert self.made is not None  # noqa: S101
        self.attempt.key_id, self.attempt.version = self.made[0].id, 1
        return self.made


def _make(desk: Desk, waiting: list[NewKey]) -> None:
    alike: dict[tuple[str, int], list[NewKey]] = {}
    for one in waiting:
        alike.setdefault((one.attempt.caller.tenant, one.request.spec.length), []).append(one)
    for (tenant, length), ones in alike.items():
        rest = desk.module.random(AFTER_TIME * len(ones))
        random = [rest[at : at + AFTER_TIME] for at in range(0, len(rest), AFTER_TIME)]
        ids = [new_id(one.attempt, each) for one, each in zip(ones, random, strict=True)]
        places = [
            material_context(tenant, key_id, 1, one.request.spec.value, one.request.purpose.value)
            for key_id, one in zip(ids, ones, strict=True)
        ]
        sealed = desk.module.make_sealed(desk.keyring.tenant_key(tenant, "operational"), length, places)
        for one, key_id, (kcv, blob) in zip(ones, ids, sealed, strict=True):
            key = described(one.attempt, one.request, key_id, "generated", kcv, None)
            one.made = key, WrappedMaterial(key=key_id, number=1, sealed=blob, archived=False)


def new_id(attempt: Attempt, rest: bytes) -> str:
    """Return a key's id, of the attempt's time and `AFTER_TIME` random bytes."""
    return to_id("key", by_time(attempt.at, rest))


def described(attempt: Attempt, request: Description, key_id: str, origin: str, kcv: str, public: bytes | None) -> Key:
    """Return the key as it begins its life, with its first version."""
    version = Version(number=1, state=FIRST, origin=origin, kcv=kcv, created_at=attempt.at, public=public)
    if request.activate:
        version = moved(version, Move.ACTIVATE, attempt.at)
    return Key(
        id=key_id,
        tenant=attempt.caller.tenant,
        name=request.name,
        spec=request.spec.value,
        purpose=request.purpose.value,
        owner=request.owner,
        environment=request.environment,
        classification=request.classification,
        location="software",
        tags=dict(sorted(request.tags.items())),
        cryptoperiod=request.cryptoperiod or DEFAULTS[request.purpose.value],
        rotation=request.rotation,
        created_at=attempt.at,
        created_by=attempt.caller.principal,
        primary=1 if request.activate else None,
        rev=1,
        stale=Stale.ALLOWED if request.stale_ok else Stale.NEVER,
        versions=(version,),
    )


def keep(transaction: Connection, key: Key, wrapped: WrappedMaterial) -> KeyView:
    """Insert the rows of a key, and describe it."""
    key_rows.insert_key(transaction, key, wrapped)
    return view(key)
