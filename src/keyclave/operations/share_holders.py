"""share-holder-name and share-holder-list: who keeps which share of the root's recovery key.

Naming moves no share: it is the record of who has which, for rules that keep holders apart from other duties, and for whoever
reads the events of an unsealing. A share that changes hands is named anew; the history stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core.clock import to_text
from keyclave.core.errors import Refused, SelfConflict, Unknown
from keyclave.identity.roles import SHARE_HOLDER
from keyclave.operations.attempt import Attempt
from keyclave.operations.elevation.separation import check_separation
from keyclave.operations.forms import Answer, Reason, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.people.invitations import PersonName
from keyclave.operations.people.way_back import taking
from keyclave.operations.tenants import check_home
from keyclave.store import meta_rows
from keyclave.store.access import people, shares
from keyclave.store.access.shares import Holding

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

ROOT_SHARES = "root.shares"
"""In the store's settings: how many shares the ceremony made."""
MOST = 16  # shares of a set (spec/shares.md)


class NameRequest(Request, kw_only=True):
    """Who has the share of this number now."""

    share: Annotated[int, Meta(ge=1, le=MOST)]
    principal: PersonName
    reason: Reason = ""


class HolderView(Answer, kw_only=True):
    """Who was named for a share. `named_by` is a person, or `ceremony`; `record` the event that says so."""

    share: int
    principal: str
    since: str
    named_by: str
    approval: str
    record: str


class HolderList(Answer, kw_only=True):
    """`shares` of which `threshold` open the server; null where the ceremony kept no count. `holders`: who has which now;
    `history`: every naming, in order; `unnamed`: numbers that nobody was named for."""

    set_id: str
    threshold: int
    shares: int | None
    holders: list[HolderView]
    unnamed: list[int]
    history: list[HolderView]


def name_holder(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: NameRequest) -> Callable[[Connection], HolderView]:
    """Name the holder of a share: a person of the home tenant, whose roles go together with it, and who has no other share."""
    check_home(desk, attempt.caller)
    caller, set_id = attempt.caller, desk.vault.set_id
    count, before = desk.store.read(lambda conn: (_count(conn), shares.read_holder(conn, set_id, request.share)))
    if count is not None and request.share > count:
        raise Unknown(f"there are {count} shares", "see `keyclave share holders`")
    attempt.reason = request.reason
    attempt.detail = {"principal": request.principal, "set": set_id, "share": request.share}
    attempt.touches = (request.principal, *(() if before is None else (before.principal,)))

    def change(transaction: Connection) -> HolderView:
        person = people.read_person(transaction, caller.tenant, request.principal)
        if person is None or person.kind != "person":
            raise Unknown("there is no such person", "invite them first: `keyclave person invite`")
        if person.disabled_at is not None:
            raise Refused("this person is disabled", "name somebody who is here")
        history = shares.read_history(transaction, set_id)
        held = {one.share: one for one in history}
        now = held.get(request.share)
        if now is not None and now.principal == request.principal:
            raise Refused("this person holds this share already", "there is nothing to name")
        for other in held.values():
            if other.principal == request.principal:
                raise SelfConflict(f"{request.principal} holds share {other.share}: one person, one share", "name another person")
        check_separation(desk, transaction, caller.tenant, request.principal, [SHARE_HOLDER], attempt.at)
        if now is not None:
            attempt.drops = (now.principal,)
        made = Holding(
            set_id=set_id,
            share=request.share,
            tenant=caller.tenant,
            principal=request.principal,
            since=attempt.at,
            named_by=caller.principal,
            approval=attempt.approval or None,
            event=attempt.event,
        )
        taking(desk, transaction, attempt, person, lambda: shares.insert_holding(transaction, made), anyway=False)
        return _view(made)

    return change


def list_holders(desk: Desk, attempt: Attempt, _key: LoadedKey | None, _query: None) -> HolderList:
    """List who holds which share, and who did before."""
    check_home(desk, attempt.caller)
    set_id = desk.vault.set_id
    count, history = desk.store.read(lambda conn: (_count(conn), shares.read_history(conn, set_id)))
    held = {one.share: one for one in history}
    return HolderList(
        set_id=set_id,
        threshold=desk.vault.threshold,
        shares=count,
        holders=[_view(held[number]) for number in sorted(held)],
        unnamed=[number for number in range(1, (count or 0) + 1) if number not in held],
        history=[_view(one) for one in history],
    )


def _count(conn: Connection) -> int | None:
    kept = meta_rows.read_meta(conn, ROOT_SHARES)
    return None if kept is None else int(kept)


def _view(one: Holding) -> HolderView:
    return HolderView(
        share=one.share,
        principal=one.principal,
        since=to_text(one.since),
        named_by=one.named_by,
        approval=one.approval or "",
        record=one.event,
    )
