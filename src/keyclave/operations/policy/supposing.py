"""A call that nobody makes: somebody, something, somehow, put before the judgement that real calls pass.

Explanations and test cases ask the same code that decides requests, with a caller made for the purpose; nothing is done by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core.errors import KeyclaveError, Malformed, SelfConflict, Unknown
from keyclave.envelope.context import encode_context
from keyclave.identity.caller import Caller, Credential, Standing
from keyclave.identity.grants import PURPOSES
from keyclave.identity.peer import Peer, Plane
from keyclave.identity.roles import Role
from keyclave.identity.scope import Scope
from keyclave.keys.model import Cryptoperiod, Key
from keyclave.operations.apart import ELSE, first_barring, histories_on_key
from keyclave.operations.asking import FRESH
from keyclave.operations.assurance import check_assurance, check_roles_apart
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Context, Request
from keyclave.operations.keyring import unknown_key
from keyclave.operations.policy.forms import OperationName, Principal, Ref
from keyclave.operations.policy.standings import best_aal, workload_row
from keyclave.operations.standing import stand
from keyclave.policy.apart import Apart, reason
from keyclave.policy.decision import Alternative, Decision
from keyclave.policy.duties import check_duty
from keyclave.policy.engine import Compiled, Question
from keyclave.store import key_rows
from keyclave.store.access import credentials, reviews, workloads
from keyclave.store.access.reviews import PrincipalRow

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

_FOREVER = 2**62
_Word = Annotated[str, Meta(max_length=128)]


class NewKey(Request, kw_only=True):
    """A key that need not exist, as a case describes it."""

    name: _Word = "a-key"
    spec: _Word = "aes-256"
    purpose: _Word = "encrypt"
    owner: _Word = "nobody"
    environment: _Word = "test"
    classification: _Word = "ePHI"
    location: _Word = "software"
    tags: Annotated[dict[_Word, Annotated[str, Meta(max_length=256)]], Meta(max_length=50)] = {}

    def key(self) -> Key:
        """Return it as a key that policies can look at."""
        return Key(
            id=f"supposed:{self.name}", tenant="", cryptoperiod=Cryptoperiod(protect_days=1, process_days=1), rotation=None,
            created_at=0, created_by="", primary=None, rev=0, **{name: getattr(self, name) for name in _SAME},
        )  # fmt: skip


_SAME = ("name", "spec", "purpose", "owner", "environment", "classification", "location", "tags")


class Supposition(Request, kw_only=True):
    """Who would do what, on which key, how.

    `principal` as it is known; one that is not known yet needs `duty`. `key` by name or id, or `new_key`. `credential`: which of
    an application's credentials; without it, the first with which it goes. `address` decides the networks. `aal`: the best that
    a person can prove, unless given. `scoped`: an application that is not known yet has a scope over everything.
    """

    principal: Principal
    operation: OperationName
    key: Ref = ""
    new_key: NewKey | None = None
    context: Context = {}
    duty: Role | None = None
    roles: Annotated[tuple[_Word, ...], Meta(max_length=64)] | None = None
    credential: Annotated[str, Meta(max_length=40)] = ""
    address: Annotated[str, Meta(max_length=64)] = ""
    purpose: Annotated[str, Meta(max_length=40)] = ""
    plane: Plane = Plane.BOTH
    aal: Annotated[int, Meta(ge=1, le=3)] | None = None
    fresh: bool = True
    how: Annotated[str, Meta(max_length=40)] = ""
    elevated: bool = False
    scoped: bool = False


def check_form(supposition: Supposition) -> None:
    """Refuse a context that no operation would take: `Malformed` or `TooLarge`."""
    encode_context(supposition.context)


@dataclass
class Supposed:
    """What a judgement looks at."""

    action: str
    at: int
    caller: Caller
    peer: Peer
    purpose: str


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a supposed call. `refused` is why it does not go, empty if it does; `right` by which it does."""

    caller: Caller
    question: Question | None
    decision: Decision | None
    right: Alternative | None
    refused: KeyclaveError | None


def judge(desk: Desk, attempt: Attempt, revision: Compiled, supposition: Supposition) -> Judgement:
    """Put a supposed call before the judgement under `revision`."""
    if supposition.operation not in revision.kinds:
        raise Malformed("there is no such operation", "`keyclave openapi` lists them; privilege-grant is one that others act as")
    if supposition.purpose and supposition.purpose not in PURPOSES:
        raise Malformed("this is no purpose of use", f"known: {', '.join(PURPOSES)}")
    key = _key(desk, attempt, supposition, on_key=revision.kinds[supposition.operation].on_key)
    found = [_judge_one(desk, attempt, revision, supposition, caller, key) for caller in _callers(desk, attempt, supposition)]
    best = next((one for one in found if one.refused is None), found[0])
    if best.refused is None and best.caller.standing.person and key is not None:
        barring = desk.store.read(lambda conn: _barring(conn, revision, best.caller, supposition.operation, key))
        return best if barring is None else msgspec.structs.replace(best, refused=SelfConflict(reason(barring), ELSE))
    return best


def _barring(conn: Connection, revision: Compiled, caller: Caller, operation: str, key: Key) -> Apart | None:
    """Return the rule that keeps somebody from an act on a key for what they did on it before."""
    return first_barring(histories_on_key(conn, revision, caller.tenant, operation, key.id), caller.principal)


def _judge_one(desk: Desk, attempt: Attempt, revision: Compiled, said: Supposition, caller: Caller, key: Key | None) -> Judgement:
    asking = Supposed(said.operation, attempt.at, caller, Peer(said.address, said.plane), said.purpose)
    question, decision = desk.access.suppose(asking, key, revision)
    refused: KeyclaveError | None = None
    chosen: Alternative | None = None
    try:
        check_duty(caller, said.operation)
        if caller.standing.person:
            check_roles_apart(asking, revision, own=revision.kinds[said.operation].own)
            check_assurance(asking, revision)
    except KeyclaveError as error:
        refused = error
    if refused is None and not decision.allowed:
        refused = Unknown(decision.why, decision.hint)
    if refused is None and decision.alternatives:
        live = [one for one in decision.alternatives if not one.tags and (not one.until or attempt.at < one.until)]
        chosen = next((one for one in live if one.admits(said.context)), None)
        if chosen is None:
            names = sorted({name for name in (one.unmet(said.context) for one in live) if name})
            refused = Unknown(f"no right admits this encryption context: see {', '.join(names)}", "give --context NAME=VALUE")
    return Judgement(caller=caller, question=question, decision=decision, right=chosen, refused=refused)


# ---- who and what ---------------------------------------------------------------------------------------------------------
def _key(desk: Desk, attempt: Attempt, said: Supposition, *, on_key: bool) -> Key | None:
    if not on_key:
        return None
    if said.new_key is not None:
        return said.new_key.key()
    if not said.key:
        raise Malformed(f"{said.operation} is done on a key", "name one")
    return readable_key(desk, attempt, said.key)


def readable_key(desk: Desk, attempt: Attempt, ref: str) -> Key:
    """Return a key that the caller may know of; to whoever may not, it is unknown here too, after the same time."""
    found = desk.store.read(lambda conn: key_rows.read_key(conn, attempt.caller.tenant, ref))
    if found is None:
        desk.access.judge_unknown(attempt, ref)
        raise unknown_key()
    if not desk.access.knows(attempt, found):
        raise unknown_key()
    return found


def _callers(desk: Desk, attempt: Attempt, said: Supposition) -> list[Caller]:
    tenant, at = attempt.caller.tenant, attempt.at

    def read(conn: Connection) -> list[Caller]:
        row = next(iter(reviews.read_principals(conn, tenant, at, said.principal)), None)
        registered = workloads.match_workload(conn, tenant, said.principal, [])
        if row is None and registered is not None:
            row = workload_row(registered.name, disabled=registered.disabled_at is not None)
        if row is None:
            if said.duty is None:
                raise Unknown("there is no such principal", "name one that exists, or give its duty to suppose one")
            row = PrincipalRow(name=said.principal, person=said.duty is not Role.APPLICATION, duty=said.duty, disabled=False)
        duty = said.duty or row.duty
        held = [_credential(tenant, row, duty, said.credential, None if registered is None else registered.scope)]
        if duty is Role.APPLICATION:
            held = [*credentials.live_credentials(conn, tenant, at, row.name), *held]
            if said.credential:
                held = [one for one in held if one.id == said.credential]
            if said.scoped:
                held = [msgspec.structs.replace(held[-1], scope=_everything(said.operation))]
        if not held:
            raise Unknown("this principal has no such live credential", "see `keyclave credential list`")
        return [Caller(*stand(conn, one, _standing(row, duty, said, at), at)) for one in held]

    return desk.store.read(read)


def _credential(tenant: str, row: PrincipalRow, duty: Role, name: str, scope: Scope | None) -> Credential:
    return Credential(
        id=name, tenant=tenant, principal=row.name, role=duty, scope=scope, created_at=0, created_by="", expires_at=_FOREVER
    )


def _standing(row: PrincipalRow, duty: Role, said: Supposition, at: int) -> Standing:
    roles = row.roles if said.roles is None else said.roles
    return Standing(
        aal=said.aal or best_aal(row),
        elevation="supposed" if said.elevated else "",
        how=said.how,
        person=duty is not Role.APPLICATION,
        roles=(duty.value, *roles),
        stepped_up_at=at if said.fresh else at - 2 * FRESH,
    )


def _everything(operation: str) -> Scope:
    return Scope(operations=(operation,), keys=("*",))
