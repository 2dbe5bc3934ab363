"""policy-read, policy-list: the policy in force, and those before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from keyclave.core import limits
from keyclave.core.clock import to_text
from keyclave.core.errors import Unknown
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Answer
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.policy.forms import RevisionView
from keyclave.store.access import policies

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

_LAST = 2**31 - 1


class PolicyQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`revision` omitted: the one in force."""

    revision: Annotated[int, Meta(ge=1, le=_LAST)] | None = None


class PolicyAnswer(RevisionView, kw_only=True):
    """A revision with its files."""

    files: dict[str, str]


class RevisionQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Revisions below `before`, newest first."""

    before: Annotated[int, Meta(ge=1, le=_LAST)] = _LAST
    limit: Annotated[int, Meta(ge=1, le=limits.PAGE)] = 100


class RevisionPage(Answer, kw_only=True):
    """`next` is the `before` of the following page, or null at the end."""

    revisions: list[RevisionView]
    next: int | None


def read_policy(desk: Desk, attempt: Attempt, _key: LoadedKey | None, query: PolicyQuery) -> PolicyAnswer:
    """Return a revision, whole."""
    found = desk.store.read(lambda conn: policies.read_revision(conn, attempt.caller.tenant, query.revision))
    if found is None:
        raise Unknown("there is no such revision of the policy", "see `keyclave policy list`")
    return PolicyAnswer(
        revision=found.number,
        digest=found.digest.hex(),
        applied_at=to_text(found.applied_at),
        applied_by=found.applied_by,
        approval=found.approval,
        files=found.files,
    )


def list_revisions(desk: Desk, attempt: Attempt, _key: LoadedKey | None, query: RevisionQuery) -> RevisionPage:
    """List revisions, newest first."""
    tenant, limit = attempt.caller.tenant, query.limit
    found = desk.store.read(lambda conn: policies.list_revisions(conn, tenant, query.before, limit + 1))
    shown = [
        RevisionView(revision=number, digest=digest.hex(), applied_at=to_text(at), applied_by=by, approval=approval)
        for number, digest, at, by, approval in found[:limit]
    ]
    return RevisionPage(revisions=shown, next=found[limit - 1][0] if len(found) > limit else None)
