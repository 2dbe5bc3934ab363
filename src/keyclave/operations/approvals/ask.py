"""approval-request: say exactly what is to be done, on what, with which parameters; others sign it.

The requester's own right is looked at first, item by item, as if it were done now: nobody has others sign for what they may not
do. Names of keys become ids here, and every default is written out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta
from sqlalchemy import Connection

from keyclave.approvals.counting import ends_at, needed
from keyclave.approvals.request import FORMAT, ApprovalRequest, Item, Rule
from keyclave.core.errors import LimitReached, Malformed, Refused, TooLarge
from keyclave.core.ids import RAW, to_id
from keyclave.core.limits import NAME, PRINTABLE, REASON
from keyclave.crypto.digest import sha256
from keyclave.operations.apart import check_doer
from keyclave.operations.approvals.evidence import deeds_of, gather, rule_of
from keyclave.operations.approvals.hold import nobody_can
from keyclave.operations.approvals.room import plain
from keyclave.operations.approvals.view import ApprovalView, view
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Request
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.people.enrolment import seal_bytes
from keyclave.policy.decision import ApprovalRule
from keyclave.store.access import approvals

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk
    from keyclave.operations.operation import Operation

MOST_ITEMS = 100
MOST_OPEN = 100  # open requests of one person
LARGEST = 4 << 20  # bytes of a canonical request

_Ref = Annotated[str, Meta(max_length=NAME)]
_Body = dict[str, Any] | None
_Revision = Annotated[int, Meta(ge=1, le=999_999_999)] | None


class AskedItem(Request, kw_only=True):
    """One act: `ref` as the operation's path has it (a key by name or id), `request` its body, `if_match` a key's revision."""

    ref: _Ref = ""
    request: _Body = None
    if_match: _Revision = None


class AskRequest(Request, kw_only=True):
    """One act (`ref`, `request`, `if_match`), or several as `items`; `reason` is what approvers read first."""

    operation: Annotated[str, Meta(max_length=40)]
    reason: Annotated[str, Meta(min_length=1, max_length=REASON, pattern=PRINTABLE)]
    ref: _Ref = ""
    request: _Body = None
    if_match: _Revision = None
    items: Annotated[tuple[AskedItem, ...], Meta(max_length=MOST_ITEMS)] = ()


def ask(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: AskRequest) -> Callable[[Connection], ApprovalView]:
    """Keep a request for approval."""
    op = desk.approvals.operation(request.operation)
    asked = request.items or (AskedItem(ref=request.ref, request=request.request, if_match=request.if_match),)
    if request.items and (request.ref or request.request is not None or request.if_match is not None):
        raise Malformed("one act, or a list of items, not both", "put the act into `items`")
    judged = [_judge(desk, attempt, op, one) for one in asked]
    items = tuple(item for item, _ in judged)
    keys = [item.ref for item in items if op.on_key]
    if len(set(keys)) < len(keys):
        raise Malformed("a key is named twice", "ask for each act on one key by itself: the second would find it changed")
    rule = _strictest([rule for _, rule in judged])
    made = ApprovalRequest(
        expires_at=ends_at(attempt.at, [rule]),
        format=FORMAT,
        id=to_id("apr", desk.module.random(RAW)),
        items=items,
        nonce=desk.module.random(RAW).hex(),
        operation=desk.approvals.name(op),
        reason=request.reason,
        requested_at=attempt.at,
        requester=attempt.caller.principal,
        rule=rule,
        tenant=attempt.caller.tenant,
    )
    _check_apart(desk, attempt, made)
    canonical = made.canonical()
    if len(canonical) > LARGEST:
        raise TooLarge(f"the request is larger than {LARGEST} bytes", "ask for less at once")
    return _keep(desk, attempt, made, canonical)


def _keep(desk: Desk, attempt: Attempt, made: ApprovalRequest, canonical: bytes) -> Callable[[Connection], ApprovalView]:
    digest = sha256(canonical)
    attempt.approval, attempt.reason = made.id, made.reason
    attempt.detail = {"asked": made.operation, "items": len(made.items), "request": digest.hex()}

    def change(transaction: Connection) -> ApprovalView:
        if approvals.count_open(transaction, made.tenant, made.requester, attempt.at) >= MOST_OPEN:
            raise LimitReached(f"you have {MOST_OPEN} open requests", "withdraw some: `keyclave approval withdraw`")
        kept = approvals.Approval(
            id=made.id,
            tenant=made.tenant,
            operation=made.operation,
            requester=made.requester,
            canonical=seal_bytes(desk, made.tenant, made.id, canonical),
            digest=digest,
            requested_at=made.requested_at,
            expires_at=made.expires_at,
            event=attempt.event,
        )
        approvals.insert_approval(transaction, kept)
        return view(gather(desk, transaction, kept), attempt.at)

    return change


def _judge(desk: Desk, attempt: Attempt, op: Operation, asked: AskedItem) -> tuple[Item, ApprovalRule]:
    """Return the item in full and its rule, after asking whether the requester may do it at all."""
    if ("{" in op.path) != bool(asked.ref):
        raise Malformed(f"{op.name} {'needs' if '{' in op.path else 'takes no'} `ref`", f"its path is {op.path}")
    if asked.if_match is not None and not op.on_key:
        raise Malformed("this operation has no revision to compare", "leave `if_match` out")
    request = desk.approvals.parse(op, asked.request)
    inner = desk.inner(op, attempt, asked.ref, request)
    key = desk.judge(op, inner, asked.ref)
    rule = None if inner.decision is None else inner.decision.approval
    if rule is None:
        raise Refused(f"{inner.action} needs no approval", "do it")
    named = {"ref": asked.ref} if key is None else {"ref": key.key.id, "label": key.key.name}
    return Item(if_match=asked.if_match, request=plain(request), **named), rule


def _check_apart(desk: Desk, attempt: Attempt, made: ApprovalRequest) -> None:
    """Refuse now whoever would be refused at the execution for what they did before."""
    revision = desk.access.revisions.of(attempt.caller.tenant)

    def read(conn: Connection) -> None:
        for deed in deeds_of(desk, made):
            check_doer(conn, revision, deed)

    if attempt.caller.standing.person:
        desk.store.read(read)


def _strictest(rules: list[ApprovalRule]) -> Rule:
    """Return one rule that is as strict as each; refuse where nobody could meet it."""
    first = rule_of(rules[0])
    roles = tuple(role for role in first.roles if all(role in rule.roles for rule in rules))
    rule = Rule(
        assurance=max(r.assurance for r in rules),
        count=max(r.count for r in rules),
        hours=min(r.hours for r in rules),
        roles=roles,
    )
    if not needed((rule,)) or rule.hours < 1:
        raise nobody_can()
    return rule
