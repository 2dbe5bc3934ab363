"""Which operations can be asked for: the table, by name, and what a kept item is as a request of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from keyclave.core.errors import Malformed

if TYPE_CHECKING:
    from keyclave.operations.operation import Operation

OWN = "approval-"
_PLACE = re.compile(r"at `\$((?:\.[a-z_]{1,40}|\[[0-9.]{1,5}\])+)`")


class Approvals:
    """Knows the table of operations, which knows this room: so it is handed over when the server is wired."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._by_name: dict[str, Operation] = {}
        for op in operations:
            if not op.batch and not op.name.startswith(OWN):
                self._by_name.setdefault(op.name if op.name not in self._by_name else _form(op), op)
        self._names = {(op.method, op.path): name for name, op in self._by_name.items()}

    def name(self, op: Operation) -> str:
        """Return how an operation is asked for: by its name, and where several share that, by the end of its path too."""
        return self._names.get((op.method, op.path), "")

    def operation(self, name: str) -> Operation:
        """Return the operation of that name; asking for approval is not itself asked for."""
        found = self._by_name.get(name)
        if found is None:
            raise Malformed("no operation of this name can be asked for", "see x-operation in /v1/openapi.json")
        return found

    def parse(self, op: Operation, body: Mapping[str, Any] | None) -> Any:
        """Return a body as the operation's request, read as strictly as any other."""
        form = op.request if op.request is not None else op.query
        if form is None:
            if body:
                raise Malformed(f"{op.name} takes no request", "leave `request` out")
            return None
        try:
            return msgspec.convert({} if body is None else dict(body), form)
        except msgspec.ValidationError as fault:
            place = _PLACE.search(str(fault))  # the field's place, and no value: it may be a secret in the wrong place
            where = "" if place is None else f" at {place[1]}"
            raise Malformed(f"`request` does not have the form of {op.name}{where}", "see /v1/openapi.json") from None

    def action(self, name: str, body: Mapping[str, Any] | None) -> str:
        """Return what policy calls an act."""
        op = self.operation(name)
        return op.name if op.acts_as is None else op.acts_as(self.parse(op, body))


def _form(op: Operation) -> str:
    return f"{op.name}:{op.path.rpartition('/')[2]}"


def plain(request: Any) -> dict[str, Any] | None:
    """Return a request with every default written out: the same act has one form, whichever way it came."""
    return None if request is None else msgspec.to_builtins(request)
