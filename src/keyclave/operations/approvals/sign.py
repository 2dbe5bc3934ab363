"""approval-begin and approval-sign: an approver reads the request, signs its hash, and is one of those who count.

Who may sign is asked before and inside the transaction, where the last place is raced for: the schema takes one signature of a
person, and none on a request that has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from keyclave.approvals.counting import Approver, why_not
from keyclave.approvals.statement import LONGEST, Statement, challenge, check_statement, read_statement
from keyclave.core.errors import AssuranceRequired, Conflict, InvalidSignature, Malformed, Refused
from keyclave.crypto.digest import sha256
from keyclave.identity.passkeys import verify_assertion
from keyclave.operations.apart import approver_barred
from keyclave.operations.approvals.evidence import (
    Evidence,
    deeds_of,
    find,
    gather,
    held_roles,
    name_approval,
    usable,
    verify_proof,
)
from keyclave.operations.approvals.hold import check_open
from keyclave.operations.approvals.view import ApprovalView, view
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Answer, Base64, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.people.proofs import count_or_suspend
from keyclave.operations.people.webauthn_forms import PasskeyProof, base64url, to_plain
from keyclave.store.access import approvals, people
from keyclave.store.access.people import Authenticator

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

_SECONDS = 300


class BeginSigning(Request, kw_only=True):
    """Which authenticator will sign; left out, whichever passkey or key of the caller's is newest."""

    authenticator: Annotated[str, Meta(max_length=64)] = ""


class SigningBegun(Answer, kw_only=True, rename={"public_key": "publicKey"}):
    """`statement` is what is signed: its bytes by a key, its SHA-256 as the challenge by a passkey. `publicKey` goes to
    `navigator.credentials.get()` for a passkey, and is null for a key. `canonical` is the request whose hash it names."""

    statement: str
    authenticator: str
    kind: str
    canonical: str
    public_key: dict[str, Any] | None


class SignRequest(Request, kw_only=True):
    """The statement, and a key's DER `signature` (base64) over it or a passkey's `credential`."""

    statement: Annotated[str, Meta(max_length=LONGEST)]
    signature: Base64 | None = None
    credential: PasskeyProof | None = None


def begin(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: BeginSigning) -> SigningBegun:
    """Return what the caller would sign."""
    name_approval(attempt)

    def read(conn: Connection) -> tuple[Evidence, Authenticator]:
        evidence = gather(desk, conn, find(conn, attempt.caller.tenant, attempt.ref))
        found = _choose(conn, attempt, request.authenticator, evidence)
        _check_may_sign(desk, conn, attempt, evidence, found)
        return evidence, found

    evidence, found = desk.store.read(read)
    statement = _expected(attempt, evidence, found).encode()
    options = None
    if found.kind == "passkey":
        options = {
            "challenge": base64url(challenge(statement)),
            "rpId": desk.people.relying.id,
            "timeout": _SECONDS * 1000,
            "userVerification": "required",
            "allowCredentials": [{"type": "public-key", "id": base64url(found.handle or b"")}],
        }
    return SigningBegun(
        statement=statement.decode(),
        authenticator=found.id,
        kind=found.kind,
        canonical=evidence.canonical.decode(),
        public_key=options,
    )


def sign(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: SignRequest
) -> Callable[[Connection], ApprovalView | None]:
    """Add the caller's signature."""
    name_approval(attempt)
    statement = read_statement(request.statement)
    proof = _proof(request)

    def check(conn: Connection) -> tuple[Evidence, Authenticator, frozenset[str]]:
        evidence = gather(desk, conn, find(conn, attempt.caller.tenant, attempt.ref))
        found = _choose(conn, attempt, statement.authenticator, evidence)
        roles = _check_may_sign(desk, conn, attempt, evidence, found)
        check_statement(statement, _expected(attempt, evidence, found))
        return evidence, found, roles

    evidence, found, roles = desk.store.read(check)
    asserted = _verify(desk, found, request, proof)
    attempt.detail = {
        "authenticator": found.id,
        "kind": found.kind,
        "request": evidence.kept.digest.hex(),
        "roles": ",".join(sorted(roles)),
        "statement": sha256(request.statement.encode()).hex(),
    }

    def change(transaction: Connection) -> ApprovalView | None:
        now, _, _ = check(transaction)
        if asserted is not None and not count_or_suspend(transaction, attempt, found, asserted):
            return None
        signature = approvals.Signature(
            approval=attempt.ref,
            approver=attempt.caller.principal,
            authenticator=found.id,
            statement=request.statement,
            proof=msgspec.json.encode(proof).decode(),
            signed_at=attempt.at,
            event=attempt.event,
        )
        approvals.insert_signature(transaction, signature)
        return view(gather(desk, transaction, now.kept), attempt.at)

    return change


def _proof(request: SignRequest) -> dict[str, Any]:
    if (request.signature is None) == (request.credential is None):
        raise Malformed("one proof is needed", "send `signature` of a key, or `credential` of a passkey")
    return {"signature": request.signature} if request.credential is None else to_plain(request.credential)


def _verify(desk: Desk, found: Authenticator, request: SignRequest, proof: dict[str, Any]) -> Any:
    """Verify the proof; return what a passkey asserted, None for a key."""
    if (found.kind == "passkey") != (request.credential is not None):
        raise Malformed(f"the authenticator is a {found.kind}", "send `signature` of a key, or `credential` of a passkey")
    statement = request.statement.encode()
    if found.kind == "key":
        try:
            verify_proof(desk, found, statement, proof)
        except InvalidSignature:
            raise Refused(
                "the signature is not one of this key over the statement",
                "sign the statement byte for byte with the enrolled key",
            ) from None
        return None
    return verify_assertion(
        desk.people.relying,
        proof,
        challenge(statement),
        public=found.public or b"",
        sign_count=found.sign_count,
        backup_eligible=found.backup_eligible,
        user_handle=desk.people.user_handle(found.tenant, found.principal),
    )


def _choose(conn: Connection, attempt: Attempt, named: str, evidence: Evidence) -> Authenticator:
    """Return the authenticator that is named; or the newest, of those that are sure enough if there is one."""
    caller = attempt.caller
    if named:
        one = people.read_authenticator(conn, caller.tenant, named)
        if one is None or not usable(one, caller.principal):
            raise Refused("this authenticator signs nothing for you", "use a passkey or key of your own that is not revoked")
        return one
    found = [one for one in people.list_authenticators(conn, caller.tenant, caller.principal) if usable(one, caller.principal)]
    if not found:
        raise AssuranceRequired(
            "you have no authenticator that can sign an approval", "enrol a passkey, or a key: codes and passwords do not sign"
        )
    least = max(rule.assurance for rule in evidence.rules)
    return next((one for one in reversed(found) if one.aal >= least), found[-1])


def _check_may_sign(desk: Desk, conn: Connection, attempt: Attempt, evidence: Evidence, found: Authenticator) -> frozenset[str]:
    """Refuse whoever would not count, and whoever signed already; return the roles the caller holds."""
    caller, revision = attempt.caller, desk.access.revisions.of(attempt.caller.tenant)
    check_open(desk, evidence)
    if not caller.standing.person:
        raise Refused("people approve, programs do not", "ask a person who holds the role")
    person = people.read_person(conn, caller.tenant, caller.principal)
    roles = held_roles(conn, revision.rules, caller.tenant, caller.principal)
    barred = approver_barred(conn, revision, deeds_of(desk, evidence.request), evidence.kept.id, caller.principal, roles)
    approver = Approver(
        name=caller.principal,
        roles=roles,
        enabled=person is not None and person.disabled_at is None,
        authenticator_live=True,
        aal=found.aal,
        signature_holds=True,
        apart=barred,
    )
    why = why_not(approver, evidence.rules)
    if why:
        raise Refused(
            f"you cannot approve this: {why}", "ask another person: `keyclave approval show` says whose signature counts"
        )
    if any(one.approver == caller.principal for one in evidence.signatures):
        raise Conflict("you signed this already", "nobody counts twice: another person signs")
    return approver.roles


def _expected(attempt: Attempt, evidence: Evidence, found: Authenticator) -> Statement:
    return Statement(
        approver=attempt.caller.principal,
        at=attempt.at,
        authenticator=found.id,
        request=evidence.kept.digest.hex(),
        tenant=attempt.caller.tenant,
    )
