"""Which role may do which operation, as one table; everything not in it is refused (R10, R15: least privilege).

Applications are bound further by the scope of their credential. Nobody who manages keys may use them.
"""

from __future__ import annotations

from keyclave.core.errors import Refused
from keyclave.identity.caller import Caller
from keyclave.identity.roles import Role
from keyclave.keys.transitions import MAY, Move

_C, _O, _A, _P = Role.CUSTODIAN, Role.OPERATOR, Role.AUDITOR, Role.APPLICATION
_B, _N = Role.BREAK_GLASS, Role.PERSON
_PEOPLE = (_C, _O, _A, _B, _N)

OWN = (
    "authenticator-begin", "authenticator-enrol", "authenticator-list", "authenticator-revoke", "step-up", "logout",
    "session-list", "session-revoke", "cli-grant", "device-look", "device-grant",
)  # fmt: skip
"""What every person does for themselves; some may do it for others too, which the verbs decide."""

ENROLLING = frozenset({"authenticator-begin", "authenticator-enrol", "authenticator-list", "logout", "whoami"})
"""All that a session can do that came from an invitation or a recovery code."""

EMERGENCY = frozenset({"seal"})
"""What waits for nothing: whoever may do it stops a disaster with it, at once, and takes nothing by it but service."""

USES = (
    "encrypt", "decrypt", "re-encrypt", "data-key", "data-key-pair", "wrap", "unwrap", "sign", "verify", "mac", "verify-mac",
    "derive-shared-secret", "encapsulate", "decapsulate", "random",
)  # fmt: skip
"""Operations that use a key in place; the only ones that a scope can name, with reading a public key."""

SCOPED = frozenset((*USES, "public-key", "key-read"))

GLASS_USES = frozenset(("decrypt", "unwrap", "encrypt", "data-key", "wrap"))
"""Uses that break-glass can reach: all of them have an encryption context, so each can be held to the patient or encounter."""
OWN_CREDENTIALS = frozenset(("certificate-issue", "bound-token-issue", "credential-renew"))
"""What applications do about their own credentials; none of it touches a key or anybody else."""

DUTIES: dict[str, tuple[Role, ...]] = {
    **{use: (_P, _B) if use in GLASS_USES else (_P,) for use in USES},
    **{move.value: tuple(Role(r) for r in MAY[move]) for move in Move if move is not Move.SUPERSEDE},
    "rotate": tuple(Role(r) for r in MAY[Move.SUPERSEDE]),
    "schedule-destruction": (_C,),
    "cancel-destruction": (_C, _O),
    "key-create": (_C,),
    "key-import": (_C,),
    "import-parameters": (_C,),
    "key-update": (_C,),
    "key-read": (_C, _O, _A, _P, _B),
    "key-list": (_C, _O, _A),
    "public-key": (_C, _O, _A, _P, _B),
    "credential-issue": (_C, _O),
    "privilege-grant": (_C,),
    "credential-list": (_C, _O, _A),
    "credential-revoke": (_C, _O),
    "grant-create": (_C, _O, _P),
    "grant-retire": (_P,),
    "grant-revoke": (_C, _O, _P),
    "grant-list": (_C, _O, _A, _P),
    "grant-read": (_C, _O, _A, _P),
    "eligibility-create": (_C,),
    "eligibility-list": (_C, _O, _A),
    "eligibility-revoke": (_C, _O),
    "elevate": (_C, _O, _A, _N),
    "elevate-approved": (_C, _O, _A, _N),
    "elevation-list": (_C, _O, _A, _B, _N),
    "elevation-end": (_C, _O, _A, _B, _N),
    "break-glass": (_N, _B),
    "break-glass-review": (_C, _A),
    "alarm-list": (_C, _O, _A),
    "alarm-acknowledge": (_C, _O, _A),
    "approval-request": (_C, _O, _A, _P, _N),
    "approval-list": (_C, _O, _A),
    "approval-read": (_C, _O, _A, _N),
    "approval-bundle": (_C, _O, _A),
    "approval-begin": (_C, _O, _A),
    "approval-sign": (_C, _O, _A),
    "approval-deny": (_C, _O, _A),
    "approval-withdraw": (_C, _O, _A, _P, _N),
    "approval-execute": (_C, _O, _A, _P, _N),
    "tenant-create": (_C,),
    "workload-register": (_O,),
    "workload-update": (_O,),
    "workload-list": (_C, _O, _A),
    **{own: _PEOPLE for own in OWN},
    "invitation-create": (_C, _O),
    "invitation-confirm": (_C, _O, _A),
    "invitation-revoke": (_C, _O),
    "invitation-list": (_C, _O, _A),
    "person-list": (_C, _O, _A),
    "person-read": (_C, _O, _A),
    "person-disable": (_C, _O),
    "person-enable": (_C,),
    "person-roles": (_C,),
    "policy-read": (_C, _O, _A),
    "policy-list": (_C, _O, _A),
    "policy-validate": (_C, _O, _A),
    "policy-plan": (_C, _O, _A),
    "policy-explain": (_C, _O, _A),
    "policy-test": (_C, _O, _A),
    "policy-simulate": (_C, _O, _A),
    "policy-apply": (_C, _O),
    "who-can": (_C, _O, _A),
    "whoami": (_C, _O, _A, _P, _B, _N),
    "status-read": (_C, _O, _A, _P, _B, _N),
    "authority-renew": (_O,),
    "enrolment-create": (_O,),
    "enrolment-list": (_C, _O, _A),
    "enrolment-revoke": (_C, _O),
    "certificate-issue": (_P,),
    "certificate-list": (_C, _O, _A),
    "certificate-revoke": (_C, _O),
    "bound-token-issue": (_P,),
    "credential-renew": (_P,),
    "share-holder-name": (_C,),
    "share-holder-list": (_C, _O, _A),
    "seal": (_C, _O),
    "self-test": (_C, _O, _A),
    "node-list": (_C, _O, _A),
    "node-drain": (_C, _O),
    "log-read": (_A,),
    "receipt-read": (_C, _O, _A, _P, _B, _N),
}

ISSUES: dict[Role, tuple[Role, ...]] = {_C: (_C, _O, _A, _N), _O: (_P,)}
"""Who issues credentials for whom: operators for applications, custodians for people. Never for oneself."""


def check_duty(caller: Caller, operation: str) -> None:
    """Refuse an operation that is not among the duties of the caller's role, or not one that what was presented is good for."""
    if caller.standing.enrolling and operation not in ENROLLING:
        raise Refused("this session is good for enrolling alone", "enrol a passkey, then log in with it")
    only = caller.standing.only
    if only and operation not in only:
        raise Refused(f"what was presented is not good for {operation}", f"it is for: {', '.join(only)}")
    if caller.role not in DUTIES[operation]:
        roles = " or ".join(r.value for r in DUTIES[operation])
        raise Refused(f"{operation} is not a duty of the role {caller.role.value}", f"it needs a credential of: {roles}")


def check_issue(caller: Caller, principal: str, role: Role) -> None:
    """Refuse to issue a credential to oneself, or for a role that is not the caller's to give."""
    if role not in ISSUES.get(caller.role, ()):
        givers = " or ".join(r.value for r, given in ISSUES.items() if role in given)
        raise Refused(f"a credential for {role.value} is not issued by {caller.role.value}", f"ask: {givers}")
    if principal == caller.principal:
        raise Refused("nobody issues a credential to themselves", "ask another person who holds the role")


def reaches(caller: Caller, operation: str, key_id: str, key_name: str) -> bool:
    """Tell whether the caller may do `operation` on this key; remembered for the life of the caller object."""
    asked = (operation, key_id)
    known = caller.allowed.get(asked)
    if known is None:
        scope = caller.scope
        known = caller.role in DUTIES[operation] and (
            caller.role is not Role.APPLICATION
            or (scope is not None and operation in scope.operations and scope.names_key(key_id, key_name))
        )
        caller.allowed[asked] = known
    return known
