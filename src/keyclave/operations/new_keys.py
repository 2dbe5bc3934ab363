"""Keys that are being made: described from the first moment (R13), and wrapped before they are kept.

A symmetric key waits for its group, like everything that is kept: those that wait for the same commit are generated, checked and
sealed in one go. The first of them that is kept has them all made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection

from keyclave.core.ids import AFTER_TIME, to_timed_id
from keyclave.keys.model import Key, Stale, Version, WrappedMaterial
from keyclave.keys.periods import DEFAULTS
from keyclave.keys.transitions import FIRST, Move, moved
from keyclave.operations.alike import Alike
from keyclave.operations.answers import encode_answer
from keyclave.operations.attempt_events import leaves_of
from keyclave.operations.key_view import KeyView, view
from keyclave.operations.keyring import material_context
from keyclave.store import key_rows

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt
    from keyclave.operations.create_key import CreateRequest, Description
    from keyclave.operations.desk import Desk
    from keyclave.store.insertions import Rows

NewKeys = dict["Attempt", "NewKey"]
"""Those that wait to be made, by what is to make them."""
REV = 1
"""The revision of a key that was just made."""


class NewKey:
    """A symmetric key that an attempt is to make. Called again for the same attempt, it keeps the same key.

    `alike` is what is known of one that was made before, by the same caller and asked for in the same words. `id`, `kcv` (the
    check value) and `sealed` (the material) are there once it is generated.
    """

    __slots__ = ("alike", "attempt", "desk", "id", "kcv", "request", "sealed")

    def __init__(self, desk: Desk, attempt: Attempt, request: CreateRequest, alike: Alike | None) -> None:
        self.desk = desk
        self.attempt = attempt
        self.request = request
        self.alike = alike
        self.id = self.kcv = ""
        self.sealed = b""
        desk.new_keys[attempt] = self

    def keep(self, transaction: Connection) -> KeyView:
        """Insert its rows."""
        self._take()
        return keep(transaction, self.attempt, *self._described())

    def add(self, rows: Rows, first: int) -> list[bytes]:
        """Let its rows wait, and return its event, numbered `first`; the answer is written once they are kept."""
        self._take()
        attempt = self.attempt
        attempt.later = self._write
        if self.alike is not None:
            self.alike.rows.add(rows, self.id, self.request.name, attempt.at, self.kcv, self.sealed, _made_in(attempt))
            return [self.alike.event(attempt)]
        key, wrapped = self._described()
        key_rows.add_key(rows, key, wrapped, _made_in(attempt))
        if attempt.repeat is not None:
            attempt.repeat.alike = Alike(attempt, key)
        return leaves_of(attempt, first, attempt.outcome)

    def _write(self, event: str) -> bytes:
        if self.alike is not None:
            return self.alike.answer(self.attempt, self.kcv)
        answer = self.attempt.answer = view(self._described()[0])
        answer.event = event
        return encode_answer(answer)

    def _take(self) -> None:
        if not self.id:
            waiting, self.desk.new_keys = self.desk.new_keys, {}
            waiting[self.attempt] = self
            _make(self.desk, list(waiting.values()))
        self.attempt.key_id, self.attempt.version = self.id, 1

    def _described(self) -> tuple[Key, WrappedMaterial]:
        key = described(self.attempt, self.request, self.id, "generated", self.kcv, None)
        return key, WrappedMaterial(key=self.id, number=1, sealed=self.sealed, archived=False)

    def context(self, key_id: str) -> bytes:
        """Return what its material is sealed with."""
        if self.alike is not None:
            return self.alike.context.fill(key_id.encode())
        request = self.request
        return material_context(self.attempt.caller.tenant, key_id, 1, request.spec.value, request.purpose.value)


def _make(desk: Desk, waiting: list[NewKey]) -> None:
    together: dict[tuple[str, int], list[NewKey]] = {}
    for one in waiting:
        together.setdefault((one.attempt.caller.tenant, one.request.spec.length), []).append(one)
    for (tenant, length), ones in together.items():
        rest = desk.module.random(AFTER_TIME * len(ones))
        random = [rest[at : at + AFTER_TIME] for at in range(0, len(rest), AFTER_TIME)]
        ids = [new_id(one.attempt, each) for one, each in zip(ones, random, strict=True)]
        contexts = [one.context(key_id) for key_id, one in zip(ids, ones, strict=True)]
        made = desk.module.make_sealed(desk.keyring.tenant_key(tenant, "operational"), length, contexts)
        for one, key_id, (kcv, sealed) in zip(ones, ids, made, strict=True):
            one.id, one.kcv, one.sealed = key_id, kcv, sealed


def new_id(attempt: Attempt, rest: bytes) -> str:
    """Return a key's id, of the attempt's time and `AFTER_TIME` random bytes."""
    return to_timed_id("key", attempt.at, rest)


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
        rev=REV,
        stale=Stale.ALLOWED if request.stale_ok else Stale.NEVER,
        versions=(version,),
    )


def keep(transaction: Connection, attempt: Attempt, key: Key, wrapped: WrappedMaterial) -> KeyView:
    """Insert the rows of a key, and describe it."""
    key_rows.insert_key(transaction, key, wrapped, _made_in(attempt))
    return view(key)


def _made_in(attempt: Attempt) -> str | None:
    """Return the event that its row names: that of a person's act."""
    return attempt.event if attempt.kept_as else None
