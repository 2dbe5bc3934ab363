"""policy-apply: put a bundle in force. It waits for another person, it is signed, and the way back stays open.

Reading, validating and compiling is done on a worker thread; what is left for the loop is to put one object in another's place.
The events show the digest, the number and what changed; the whole bundle stays readable by its number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core.clock import to_text
from keyclave.core.errors import Refused, StaleRevision
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Reason
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.policy.forms import BundleRequest, RevisionView, bundle_of
from keyclave.operations.policy.signature import BundleSignature, check_signature, decoded
from keyclave.operations.policy.standings import tenancy
from keyclave.operations.revisions import POLICY
from keyclave.policy.difference import policy_changes, rule_changes
from keyclave.policy.engine import Compiled
from keyclave.policy.lockout import way_back
from keyclave.store.access import policies

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

_NAMED = 1024  # characters of names in an event


class ApplyRequest(BundleRequest, kw_only=True):
    """`expected` is the revision in force that was planned on. `signature`: the requester's own, beside the approvers'."""

    expected: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    reason: Reason = ""
    signature: BundleSignature | None = None


def apply(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: ApplyRequest) -> Callable[[Connection], RevisionView]:
    """Check a bundle and put it in force with the commit of its event."""
    revisions, tenant = desk.access.revisions, attempt.caller.tenant
    bundle = bundle_of(request.files)
    signature = decoded(request.signature)
    number, before = revisions.number(tenant), revisions.of(tenant)
    _check_expected(number, request.expected)
    check_signature(desk, attempt, bundle.digest(), number + 1, request.signature, signature)
    after = revisions.compiler.compile(bundle)
    if after.digest == before.digest:
        raise Refused("this policy is in force already", "there is nothing to apply")
    locked = way_back(after, tenant, tenancy(desk, attempt).holders())
    if locked:
        raise Refused("this policy would lock everybody out of changing it", locked)
    attempt.reason, attempt.touches = request.reason, (POLICY,)
    attempt.detail = _detail(before, after, number + 1, request.signature)
    attempt.after = lambda: revisions.put(tenant, number + 1, after)

    def change(transaction: Connection) -> RevisionView:
        kept = policies.read_revision(transaction, tenant)
        _check_expected(0 if kept is None else kept.number, request.expected)
        made = policies.Revision(
            tenant=tenant,
            number=number + 1,
            files=bundle.files,
            digest=after.digest,
            applied_at=attempt.at,
            applied_by=attempt.caller.principal,
            approval=attempt.approval,
        )
        policies.insert_revision(transaction, made)
        return RevisionView(
            revision=made.number,
            digest=made.digest.hex(),
            applied_at=to_text(made.applied_at),
            applied_by=made.applied_by,
            approval=made.approval,
        )

    return change


def _check_expected(number: int, expected: int) -> None:
    if number != expected:
        raise StaleRevision(f"the policy in force is revision {number}, not {expected}", "plan again: `keyclave policy plan`")


def _detail(before: Compiled, after: Compiled, number: int, signature: BundleSignature | None) -> dict[str, str | int]:
    changes = policy_changes(before, after)
    found: dict[str, str | int] = {
        "added": _names(changes.added),
        "changed": _names(changes.changed),
        "digest": after.digest.hex(),
        "removed": _names(changes.removed),
        "revision": number,
        "rules": _names([one.place for one in rule_changes(before.rules, after.rules)]),
    }
    if signature is not None:
        found["signed_with"] = signature.authenticator
    return found


def _names(names: list[str]) -> str:
    """Join names for an event; many are counted."""
    text = ",".join(names)
    return text if len(text) <= _NAMED else f"{text[:_NAMED].rpartition(',')[0]},… of {len(names)}"
