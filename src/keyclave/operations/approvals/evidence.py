"""What stands behind a request at this moment: every signature verified again, every approver and authenticator looked up again.

It is asked for when a request is shown, when it is signed, and inside the very transaction that executes it: what changed since a
signature was given (an approver disabled, a role taken away, an authenticator revoked, a rule made stricter) counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Connection

from keyclave.approvals.counting import Approver, Tally, ends_at, tally
from keyclave.approvals.request import ApprovalRequest, Rule, read_request
from keyclave.approvals.statement import Statement, challenge, read_statement
from keyclave.core.errors import Broken, KeyclaveError, Unknown
from keyclave.core.ids import from_id
from keyclave.crypto.digest import same, sha256
from keyclave.crypto.signatures import verify_ecdsa
from keyclave.identity.passkeys import verify_assertion
from keyclave.operations.apart import Deed, approver_barred, names_of
from keyclave.operations.fields import from_base64
from keyclave.operations.people.enrolment import open_bytes
from keyclave.policy.decision import ApprovalRule
from keyclave.policy.rules import Rules
from keyclave.store.access import approvals, people
from keyclave.store.access.approvals import Approval, Signature
from keyclave.store.access.people import Authenticator

if TYPE_CHECKING:
    from keyclave.operations.attempt import Attempt
    from keyclave.operations.desk import Desk

SIGNING = ("passkey", "key")  # what can sign a hash; codes and passwords prove presence, not what was approved
_SIGNATURE = 256  # bytes of a DER signature, at most


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """A kept request, as read; the rules that hold for it; who signed, and who of them counts now."""

    kept: Approval
    canonical: bytes
    request: ApprovalRequest
    rules: tuple[Rule, ...]
    ends_at: int
    signatures: tuple[Signature, ...]
    tally: Tally


def name_approval(attempt: Attempt) -> None:
    """Take the request that the path names as what the attempt is about, for its event; what is no id names none."""
    from_id("apr", attempt.ref)
    attempt.approval = attempt.ref


def find(conn: Connection, tenant: str, approval: str) -> Approval:
    """Return a kept request; one of another tenant is none."""
    found = approvals.read_approval(conn, tenant, approval)
    if found is None:
        raise Unknown("no such request for approval", "see `keyclave approval list`")
    return found


def gather(desk: Desk, conn: Connection, kept: Approval) -> Evidence:
    """Return what stands behind a kept request now."""
    canonical = open_bytes(desk, kept.tenant, kept.id, kept.canonical)
    request = read_request(canonical)
    named = (request.id, request.tenant, request.operation, request.requester, request.requested_at)
    if named != (kept.id, kept.tenant, kept.operation, kept.requester, kept.requested_at) or not same(
        sha256(canonical), kept.digest
    ):
        raise Broken("a kept request for approval is not what was hashed", "keep the database as evidence, and ask again")
    rules = desk.access.revisions.of(kept.tenant).rules
    binding = binding_rules(desk, request, rules)
    signed = tuple(approvals.read_signatures(conn, kept.id))
    deeds = deeds_of(desk, request)
    approvers = [_approver(desk, conn, kept, signature, deeds) for signature in signed]
    return Evidence(
        kept=kept,
        canonical=canonical,
        request=request,
        rules=binding,
        ends_at=min(request.expires_at, ends_at(request.requested_at, binding)),
        signatures=signed,
        tally=tally(approvers, binding),
    )


def binding_rules(desk: Desk, request: ApprovalRequest, rules: Rules) -> tuple[Rule, ...]:
    """Return the rule of the request and, where policy says another now, that one too: each must be met."""
    actions = {desk.approvals.action(request.operation, item.request) for item in request.items}
    now = [rule_of(rule) for rule in map(rules.approval, sorted(actions)) if rule is not None]
    return tuple(dict.fromkeys((request.rule, *now)))


def rule_of(rule: ApprovalRule) -> Rule:
    """Return policy's rule as requests hold it."""
    return Rule(assurance=rule.assurance, count=rule.count, hours=rule.hours, roles=tuple(sorted(rule.roles)))


def deeds_of(desk: Desk, request: ApprovalRequest) -> tuple[Deed, ...]:
    """Return the acts that are asked for, as separation of duties looks at them."""
    op = desk.approvals.operation(request.operation)
    found = []
    for item in request.items:
        deed = Deed(
            tenant=request.tenant,
            doer=request.requester,
            op=op.name,
            names=names_of(op, desk.approvals.action(request.operation, item.request)),
            ref=item.ref,
            request=desk.approvals.parse(op, item.request),
            key=item.ref if op.on_key else "",
        )
        found.append(deed)
    return tuple(found)


def held_roles(conn: Connection, rules: Rules, tenant: str, principal: str) -> frozenset[str]:
    """Return the roles that somebody holds, with all they are nested in; none for nobody.

    Roles taken on for a while are not among them: else whoever may take one on could approve at will.
    """
    person = people.read_person(conn, tenant, principal)
    if person is None:
        return frozenset()
    names = [person.role.value, *(held.role for held in people.read_memberships(conn, tenant, principal))]
    return frozenset(ancestor for name in names for ancestor in rules.ancestors(name))


def usable(authenticator: Authenticator | None, principal: str) -> bool:
    """Tell whether an authenticator is this person's, can sign, and is not revoked."""
    return (
        authenticator is not None
        and authenticator.principal == principal
        and authenticator.revoked_at is None
        and authenticator.kind in SIGNING
        and authenticator.public is not None
    )


def verify_proof(desk: Desk, authenticator: Authenticator, statement: bytes, proof: dict[str, Any]) -> None:
    """Verify a signature over a statement, or raise: of a key over its bytes, of a passkey over its hash as the challenge."""
    public = authenticator.public or b""
    if authenticator.kind == "key":
        verify_ecdsa(public, statement, from_base64(str(proof.get("signature", "")), _SIGNATURE, "the signature"))
        return
    verify_assertion(
        desk.people.relying,
        proof,
        challenge(statement),
        public=public,
        sign_count=0,  # the counter was compared when it was signed, once
        backup_eligible=authenticator.backup_eligible,
        user_handle=desk.people.user_handle(authenticator.tenant, authenticator.principal),
    )


def _approver(desk: Desk, conn: Connection, kept: Approval, signature: Signature, deeds: tuple[Deed, ...]) -> Approver:
    revision = desk.access.revisions.of(kept.tenant)
    person = people.read_person(conn, kept.tenant, signature.approver)
    found = people.read_authenticator(conn, kept.tenant, signature.authenticator)
    roles = held_roles(conn, revision.rules, kept.tenant, signature.approver)
    return Approver(
        name=signature.approver,
        roles=roles,
        enabled=person is not None and person.disabled_at is None and person.kind == "person",
        authenticator_live=usable(found, signature.approver),
        aal=0 if found is None else found.aal,
        signature_holds=found is not None and _holds(desk, kept, signature, found),
        apart=approver_barred(conn, revision, deeds, kept.id, signature.approver, roles),
    )


def _holds(desk: Desk, kept: Approval, signature: Signature, authenticator: Authenticator) -> bool:
    try:
        said = read_statement(signature.statement)
        expected = Statement(
            approver=signature.approver,
            at=said.at,
            authenticator=signature.authenticator,
            request=kept.digest.hex(),
            tenant=kept.tenant,
        )
        if said != expected:
            return False
        verify_proof(desk, authenticator, signature.statement.encode(), msgspec.json.decode(signature.proof, type=dict))
    except (KeyclaveError, msgspec.MsgspecError):
        return False
    return True
