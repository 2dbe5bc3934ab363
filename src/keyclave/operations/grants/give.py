"""grant-create: an operator or custodian gives an application a right to use keys; its grantee may give part of it on.

What is given on is checked twice against the grant above it: when it is asked for, and inside the transaction, where that one may
just have ended or been used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core import limits
from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import LimitReached, Malformed, Refused, SelfConflict, Unknown
from keyclave.core.ids import RAW, to_id
from keyclave.identity.grants import DEEPEST, PURPOSES, Grant, wider
from keyclave.identity.names import kind_of
from keyclave.identity.roles import Role
from keyclave.identity.scope import ContextName, ContextValue, KeyPattern, Scope
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Name, Reason, Request
from keyclave.operations.grants.view import GrantView, view
from keyclave.operations.keyring import LoadedKey
from keyclave.policy.duties import SCOPED
from keyclave.store.access import credentials, grants

HELD = 1000  # live grants of one principal: they are matched one by one
LONGEST = 366 * 86_400
_Word = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9._-]*$(?!\n)")]


class GrantRequest(Request, kw_only=True):
    """`context` binds the encryption context like a scope does; with `exact` it may have no other names. `purposes`, `networks`:
    one of them, where any are listed. `uses`: how often; items of a batch count each. `parent`: the grant to give on from,
    needed of an application only."""

    grantee: Name
    operations: Annotated[tuple[Annotated[str, Meta(max_length=40)], ...], Meta(min_length=1, max_length=64)]
    keys: Annotated[tuple[KeyPattern, ...], Meta(min_length=1, max_length=128)]
    ttl_seconds: Annotated[int, Meta(ge=1, le=LONGEST)]
    context: Annotated[dict[ContextName, tuple[ContextValue, ...]], Meta(max_length=limits.CONTEXT_ENTRIES)] = {}
    delegate: bool = False
    exact: bool = False
    networks: Annotated[tuple[_Word, ...], Meta(max_length=16)] = ()
    parent: Annotated[str, Meta(max_length=64)] | None = None
    purposes: Annotated[tuple[str, ...], Meta(max_length=len(PURPOSES))] = ()
    reason: Reason = ""
    uses: Annotated[int, Meta(ge=1, le=2**53)] | None = None


def create_grant(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: GrantRequest
) -> Callable[[Connection], GrantView]:
    """Give a grant; the grantee may use it with their next request."""
    _check_form(request)
    caller = attempt.caller
    if request.grantee == caller.principal:
        raise SelfConflict("nobody grants anything to themselves", "ask another person who may")
    _check_networks(desk, attempt, request)
    parent = _parent(desk, attempt, request.parent)
    grant = Grant(
        id=to_id("gnt", desk.module.random(RAW)),
        tenant=caller.tenant,
        grantee=request.grantee,
        operations=tuple(sorted(set(request.operations))),
        keys=tuple(sorted(set(request.keys))),
        context=request.context,
        counted=request.uses is not None or (parent is not None and parent.counted),
        created_at=attempt.at,
        created_by=caller.principal,
        delegate=request.delegate,
        depth=1 if parent is None else parent.depth + 1,
        exact=request.exact,
        expires_at=attempt.at + request.ttl_seconds * MICROSECONDS,
        networks=tuple(sorted(set(request.networks))),
        parent="" if parent is None else parent.id,
        purposes=tuple(sorted(set(request.purposes))),
        remaining=request.uses,
        uses=request.uses,
    )
    attempt.touches, attempt.reason = (grant.grantee,), request.reason
    attempt.detail = {"grant": grant.id, "grantee": grant.grantee}
    if grant.parent:
        attempt.detail["parent"] = grant.parent

    def change(transaction: Connection) -> GrantView:
        _check_grantee(transaction, grant)
        if grant.parent:
            _check_within(transaction, grant, attempt)
        if grants.count_held(transaction, grant.tenant, grant.grantee, attempt.at) >= HELD:
            raise LimitReached(f"{grant.grantee} holds {HELD} live grants", "end some, or give fewer grants that reach further")
        grants.insert_grant(transaction, grant)
        return view(grant, attempt.at)

    return change


def _check_form(request: GrantRequest) -> None:
    Scope(operations=request.operations, keys=request.keys, context=request.context).check(SCOPED)
    unknown = [purpose for purpose in request.purposes if purpose not in PURPOSES]
    if unknown:
        raise Malformed("the grant names a purpose of use that does not exist", f"known: {', '.join(PURPOSES)}")


def _check_networks(desk: Desk, attempt: Attempt, request: GrantRequest) -> None:
    known = desk.access.revisions.of(attempt.caller.tenant).rules.networks
    if not known.keys() >= set(request.networks):
        raise Malformed("the grant names a network that policy does not", f"known: {', '.join(sorted(known)) or 'none'}")


def _parent(desk: Desk, attempt: Attempt, named: str | None) -> Grant | None:
    """Return the grant to give on from. Applications have nothing else to give; others give of their own duty, or revoke."""
    caller = attempt.caller
    if named is None:
        if caller.role is Role.APPLICATION:
            raise Refused("an application gives on only what it was granted", "name the grant to give on from as `parent`")
        return None
    found = desk.store.read(lambda conn: grants.read_grant(conn, caller.tenant, named))
    if found is None or found.grantee != caller.principal:  # what others were granted is not for the caller to know
        raise Unknown("no such grant", "see `keyclave grant list`")
    return found


def _check_grantee(transaction: Connection, grant: Grant) -> None:
    """Refuse a grantee who can never use it: a duty of managing keys excludes their use, whatever anybody grants."""
    role = credentials.read_role(transaction, grant.tenant, grant.grantee)
    if role is None and not kind_of(grant.grantee):  # a name from elsewhere (spiffe:…) may come before its first call
        raise Unknown("nobody has this name", "issue them a credential first, or correct the name")
    if role not in (None, Role.APPLICATION):
        raise SelfConflict(f"{grant.grantee} is {role}, and only applications use keys", "grant it to an application")


def _check_within(transaction: Connection, grant: Grant, attempt: Attempt) -> None:
    parent = grants.read_grant(transaction, grant.tenant, grant.parent)
    if parent is None or not parent.live(attempt.at) or parent.grantee != grant.created_by:
        raise Unknown("no such grant", "see `keyclave grant list`")
    if not parent.delegate:
        raise Refused(f"grant {parent.id} may not be given on", "ask whoever gave it for one with `delegate`")
    if parent.depth >= DEEPEST:
        raise LimitReached(f"grants are given on {DEEPEST - 1} times at most", "ask for a grant nearer to the first")
    further = wider(msgspec.structs.replace(grant, counted=grant.counted or parent.counted), parent)
    if further:
        raise Refused(f"the grant would reach further than {parent.id} in its {further}", "give on no more than what was granted")
