"""Who holds which share, as the ceremony names them: the first events of the log."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection

from keyclave.app.stores import AnyStore
from keyclave.audit.event import Event, encode
from keyclave.audit.event_ids import event_id
from keyclave.core.errors import Broken, Malformed
from keyclave.identity.names import check_local, kind_of
from keyclave.operations.people.invitations import PersonName
from keyclave.store.access import shares
from keyclave.store.insertions import Rows
from keyclave.store.interface import Names

CEREMONY = "ceremony"


def check_names(names: Sequence[str], custodians: int) -> None:
    """Refuse names that are not one for each share, that no person can have, or of which one has two shares."""
    if not names:
        return
    if len(names) != custodians:
        raise Malformed(f"{len(names)} holders are named for {custodians} shares", "name one --share-holder for each share")
    for name in names:
        try:
            msgspec.convert(name, PersonName)
        except msgspec.ValidationError:
            raise Malformed(f"{name!r} is no name of a person", "letters, digits and . _ : @ + - after the first") from None
        if kind_of(name) != "oidc":
            check_local(name)
    if len(set(names)) < len(names):
        raise Malformed("one person would hold two shares", "name another person: any M of N are M people")


class Naming:
    """The naming, as a unit of the store: rows and events, both or neither."""

    changes = asks = True
    adds = False

    def __init__(self, node: str, tenant: str, set_id: str, names: Sequence[str], at: int) -> None:
        self.events = len(names)
        self.fault: Exception | None = None
        self._node, self._tenant, self._set, self._names, self._at = node, tenant, set_id, names, at

    def change(self, transaction: Connection, first: int) -> list[bytes]:
        """Keep each holder with its event."""
        leaves = []
        for number, name in enumerate(self._names):
            event = event_id(self._node, first + number)
            holding = shares.Holding(
                set_id=self._set, share=number + 1, tenant=self._tenant, principal=name, since=self._at, named_by=CEREMONY,
                event=event,
            )  # fmt: skip
            shares.insert_holding(transaction, holding)
            detail: dict[str, str | int] = {"principal": name, "set": self._set, "share": number + 1}
            leaves.append(
                encode(
                    Event(
                        actor=CEREMONY, at=self._at, detail=detail, id=event, op="share-holder-name", outcome="ok",
                        tenant=self._tenant,
                    )
                )
            )  # fmt: skip
        return leaves

    def add(self, _rows: Rows, first: int) -> list[bytes]:
        """It is never asked to."""
        return self.keep(first)

    def keep(self, _first: int) -> list[bytes]:
        """It always asks for its transaction: a store that calls this would lose the rows."""
        raise Broken("holders are named with their rows or not at all", "report it: the store did not ask for the transaction")

    def refused(self, error: Exception, _first: int) -> list[bytes]:
        """Nothing refuses it: what does is a fault, and the ceremony fails with it."""
        raise error

    def touched(self) -> Names:
        """Nobody has anything of it in memory."""
        return []

    def void(self, _names: Names) -> bool:
        """It rests on nothing that others change."""
        return False

    def again(self) -> None:
        """It is never taken back."""

    def draft(self) -> None:
        """Nobody is answered."""

    def done(self, failure: Exception | None) -> None:
        """Remember what became of it."""
        self.fault = failure


def keep_naming(store: AnyStore, naming: Naming) -> None:
    """Keep it durably, or raise."""
    if naming.events:
        store.enqueue(naming)
        store.flush()
        if naming.fault is not None:
            raise naming.fault
