"""tenant-create: another covered entity or business associate, with keys of its own under the same root."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from sqlalchemy import Connection

from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import Broken, Refused
from keyclave.core.ids import RAW, to_id
from keyclave.crypto.arena import Slot
from keyclave.crypto.bearer import new_token
from keyclave.crypto.module import CryptoModule
from keyclave.identity.caller import Caller, Credential
from keyclave.identity.roles import Role
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Answer, Name, Request
from keyclave.operations.invalidation import TENANT_KEYS
from keyclave.operations.keyring import LoadedKey, tenant_context
from keyclave.operations.revisions import first_revision
from keyclave.roots.root import Root
from keyclave.store import tenant_rows
from keyclave.store.access import credentials, policies

DUTIES = ("operational", "archive", "context")
_FIRST_DAYS = 30


class TenantRequest(Request, kw_only=True):
    """How the tenant is called."""

    name: Name


class FirstCredential(msgspec.Struct, kw_only=True):
    """A first credential of a tenant; the one time its token is shown."""

    principal: str
    role: str
    token: str


class TenantAnswer(Answer, kw_only=True):
    """The tenant and its first credentials, one for each privileged role."""

    tenant: str
    name: str
    credentials: list[FirstCredential]


def create_tenant(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: TenantRequest
) -> Callable[[Connection], TenantAnswer]:
    """Make a tenant: only the home tenant's custodians may."""
    check_home(desk, attempt.caller)
    tenant, slots, sealed = new_tenant_keys(desk.module, desk.vault.root)
    attempt.detail, attempt.touches = {"name": request.name, "tenant": tenant}, (TENANT_KEYS,)
    # a new tenant asks of its people what its maker's asks
    like = "passkeys" if desk.access.revisions.of(attempt.caller.tenant).rules.assurance.custodian > 1 else "tokens"
    people = first_people(desk.module, tenant, attempt.at, attempt.caller.principal)

    def change(transaction: Connection) -> TenantAnswer:
        tenant_rows.insert_tenant(transaction, tenant, request.name, sealed, attempt.at, home=False)
        policies.insert_revision(transaction, first_revision(tenant, attempt.at, attempt.caller.principal, like))
        for credential, digest, _ in people:
            credentials.insert_credential(transaction, credential, digest)
        for duty, slot in slots.items():
            desk.keyring.adopt(tenant, duty, slot)  # harmless if the change is undone: nothing names the tenant then
        shown = [FirstCredential(principal=c.principal, role=c.role.value, token=t) for c, _, t in people]
        return TenantAnswer(tenant=tenant, name=request.name, credentials=shown)

    return change


def check_home(desk: Desk, caller: Caller) -> None:
    """Refuse what concerns every tenant to all but the home tenant's people."""
    if not desk.store.read(lambda conn: tenant_rows.tenant_is_home(conn, caller.tenant)):
        raise Refused("this concerns every tenant of the server", "ask whoever runs it: people of the home tenant may")


def new_tenant_keys(module: CryptoModule, root: Root) -> tuple[str, dict[str, Slot], dict[str, bytes]]:
    """Return a tenant id, its keys by duty, and the same protected by the root, each read back before it is believed."""
    tenant = to_id("ten", module.random(RAW))
    slots = {duty: module.random_slot(32) for duty in DUTIES}
    sealed = {duty: root.protect(slot, tenant_context(tenant, duty)) for duty, slot in slots.items()}
    for duty, slot in slots.items():
        with root.recover(sealed[duty], tenant_context(tenant, duty)) as again:
            if not slot.same_as(again):
                raise Broken("the root does not give back what it took", "do not use this root")
    return tenant, slots, sealed


def first_people(module: CryptoModule, tenant: str, at: int, by: str) -> list[tuple[Credential, bytes, str]]:
    """Return (credential, token digest, token) for a first custodian, operator and auditor."""
    people: list[tuple[Credential, bytes, str]] = []
    for role in (Role.CUSTODIAN, Role.OPERATOR, Role.AUDITOR):
        token, digest = new_token(module)
        credential = Credential(
            id=to_id("crd", module.random(RAW)),
            tenant=tenant,
            principal=f"first-{role.value}",
            role=role,
            scope=None,
            created_at=at,
            created_by=by,
            expires_at=at + _FIRST_DAYS * 86_400 * MICROSECONDS,
        )
        people.append((credential, digest, token))
    return people
