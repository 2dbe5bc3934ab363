"""Policy revisions in force, compiled, one for each tenant; what the compiler knows of operations is printed from their table."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from keyclave.operations.apart import OVER, over
from keyclave.operations.operation import Operation
from keyclave.policy.bundle import Bundle, standard
from keyclave.policy.cedar import Kind
from keyclave.policy.classes import CALLED
from keyclave.policy.duties import DUTIES, USES
from keyclave.policy.engine import Compiled, Compiler
from keyclave.store.access import policies
from keyclave.store.interface import Store

POLICY = "policy:"
"""What an attempt touches that changes the policy; no principal or key is called so."""
_READS = ("-read", "-list")
_LOOKS = ("whoami", "public-key", "who-can", "policy-validate", "policy-plan", "policy-explain", "policy-test", "policy-simulate")


class Revisions:
    """Keeps them."""

    def __init__(self, store: Store, operations: Iterable[Operation]) -> None:
        self.compiler = Compiler(kinds(operations))
        self._store = store
        self._in_force: dict[str, tuple[int, Compiled]] = {}

    def of(self, tenant: str) -> Compiled:
        """Return the revision in force for a tenant."""
        known = self._in_force.get(tenant)
        return self._load(tenant)[1] if known is None else known[1]

    def held(self, tenant: str) -> Compiled | None:
        """Return the revision in force if it is in memory."""
        known = self._in_force.get(tenant)
        return None if known is None else known[1]

    def number(self, tenant: str) -> int:
        """Return the number of the revision in force."""
        known = self._in_force.get(tenant)
        return self._load(tenant)[0] if known is None else known[0]

    def put(self, tenant: str, number: int, compiled: Compiled) -> None:
        """Put a revision in force: from the next request on, every decision is made anew."""
        self._in_force[tenant] = number, compiled

    def forget(self, tenant: str) -> None:
        """Look the revision in force up again at the next request: it is unsure which one that is."""
        self._in_force.pop(tenant, None)

    def forget_all(self) -> None:
        """Look every revision up again."""
        self._in_force.clear()

    def _load(self, tenant: str) -> tuple[int, Compiled]:
        kept = self._store.read(lambda conn: policies.read_revision(conn, tenant))
        # a tenant without a revision is held to the strictest one there is
        bundle = standard(people="passkeys") if kept is None else Bundle(files=kept.files)
        found = self._in_force[tenant] = (0 if kept is None else kept.number, self.compiler.compile(bundle))
        return found


def first_revision(tenant: str, at: int, by: str, people: str) -> policies.Revision:
    """Return the revision that a new tenant begins with."""
    bundle = standard(people=people)
    return policies.Revision(tenant=tenant, number=1, files=bundle.files, digest=bundle.digest(), applied_at=at, applied_by=by)


def kinds(operations: Iterable[Operation]) -> dict[str, Kind]:
    """Return what policy knows of every action that has a duty."""
    rows = list(operations)
    on_key = {op.name for op in rows if op.on_key}
    contextual = {op.name for op in rows if op.on_key and op.request is not None and _has_context(op.request)}
    own = {op.name for op in rows if op.self_service}
    classed = {name: one.value for name, one in CALLED.items()} | {op.name: op.classed.value for op in rows if op.classed}
    things = {**OVER, **{op.name: over(op) for op in rows if op.changes}}
    return {
        name: Kind(
            _group(name), name in on_key, name in contextual, name in own, things.get(name, frozenset()), classed.get(name, "")
        )
        for name in DUTIES
    }


def _group(name: str) -> str:
    if name in USES:
        return "use"
    return "read" if name.endswith(_READS) or name in _LOOKS else "manage"


def _has_context(request: type) -> bool:
    return any(field.name == "context" for field in msgspec.structs.fields(request))
