"""What the floors above may ask of a store: read a snapshot, and have units kept.

A unit is one attempt of a caller: perhaps a change, and always its events. Units share a commit (group commit): `done` is
called only when the whole group is durable, in the order of the log. A store MUST NOT call `done` with success before that,
MUST number events without gaps, and MUST fail every unit of a group whose commit failed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from keyclave.store.insertions import Rows

T = TypeVar("T")

Leaves = list[bytes]
Names = list[tuple[str, str]]
"""(tenant, name) of what has changed: a key, a principal, a credential, or one of the words of `keyclave.operations.desk`."""


class Unit(Protocol):
    """One attempt, waiting for its commit."""

    events: int  # how many events it will leave: known before it runs, so that the next unit's numbers are known too
    changes: bool  # whether `change` may be refused, and so needs a savepoint

    @property
    def asks(self) -> bool:
        """Whether `change` needs the transaction at all; if not, `keep` does the same without one."""
        ...

    def change(self, transaction: Connection, first: int) -> Leaves:
        """Make the change and return the encoded events, numbered from `first`.

        A refusal is raised as `KeyclaveError` by the change itself only through `refused`: it must not raise otherwise.
        Runs inside a savepoint when `changes`. A store that has to try its transaction again calls it again: it must have no
        effect outside the transaction that a second run would not replace.
        """
        ...

    @property
    def adds(self) -> bool:
        """Whether all that `change` does is to add rows that rest on none: then `add` does the same."""
        ...

    def add(self, rows: Rows, first: int) -> Leaves:
        """Let the rows wait in `rows`, and return the encoded events, numbered from `first`.

        If it raises, or a row breaks a rule of the schema, the store undoes the whole transaction and calls `change` instead, of
        every unit: it must have no effect that this would not replace. A store need not call it.
        """
        ...

    def keep(self, first: int) -> Leaves:
        """Where it asks nothing: return the encoded events, numbered from `first`. Like `change` it may be called again."""
        ...

    def touched(self) -> Names:
        """After `change` or `refused`: whose copies in the memory of other writers are void, once this is durable."""
        ...

    def void(self, names: Names) -> bool:
        """Another writer changed `names` first. Return True to be left out of the group: what it rests on has changed.

        Whoever returns True is never told `done`; `again` follows.
        """
        ...

    def again(self) -> None:
        """The group that it was left out of is decided: begin from the beginning."""
        ...

    def refused(self, error: Exception, first: int) -> Leaves:
        """The change raised `error` and was undone: return the events that say so."""
        ...

    def draft(self) -> None:
        """The group is committed and not yet durable: write the answer that `done` is to give, if that can be. It leaves nobody.

        A store need not call this.
        """
        ...

    def done(self, failure: Exception | None) -> None:
        """The group is durable (None), or nothing of the unit happened (the failure)."""
        ...


class Store(Protocol):
    """A store, as operations know it."""

    node: str  # names this store's writer in event ids
    shared: bool  # whether other processes write to the same store

    @property
    def failing(self) -> bool:
        """Tell whether the last commit failed, where nothing else says so."""
        ...

    def read(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` on a snapshot, from any thread."""
        ...

    def write(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` in a transaction of its own, for what leaves no event. It may run more than once."""
        ...

    def enqueue(self, unit: Unit) -> int:
        """Take a unit into the next group; return the number its first event will have, unless another writer is faster.

        Only from the thread that flushes.
        """
        ...

    def flush(self) -> None:
        """Commit what is waiting, now."""
        ...

    def read_entries(self, first: int, count: int) -> Sequence[bytes]:
        """Return up to `count` encoded events from number `first`, in order."""
        ...
