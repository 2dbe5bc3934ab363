"""Which operations can be asked for: the table, by name, and what a kept item is as a request of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from keyclave.core.errors import Malformed

if TYPE_CHECKING:
    from keyclave.operations.operation import Operation
    from keyclave.policy.decision import ApprovalRule
    from keyclave.policy.rules import Rules

OWN = "approval-"
_PLACE = re.compile(r"at `\$((?:\.[a-z_]{1,40}|\[[0-9.]{1,5}\])+)`")


class Approvals:
    """Knows the table of operations, which knows this room: so it is handed over when the server is wired."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        rows = [op for op in operations if not op.batch and not op.name.startswith(OWN)]
        counted = Counter(op.name for op in rows)  # a name of several forms says too little of what is approved
        self._by_name = {op.name: op for op in rows if counted[op.name] == 1}

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

    def rules_of(self, rules: Rules, name: str, body: Mapping[str, Any] | None) -> list[ApprovalRule]:
        """Return what policy asks for an act now: of its action, and of its request."""
        op = self.operation(name)
        request = self.parse(op, body)
        asked = rules.approval(op.name if op.acts_as is None else op.acts_as(request))
        more = None if op.waits is None else op.waits(rules, request)
        return [rule for rule in (asked, more) if rule is not None]


def plain(request: Any) -> dict[str, Any] | None:
    """Return a request with every default written out: the same act has one form, whichever way it came."""
    return None if request is None else msgspec.to_builtins(request)
