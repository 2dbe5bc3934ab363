"""Who may break the glass, kept so that neither the database nor the record tells: a keyed hash to find it by, the rest sealed.

Whoever knew who holds such a right would know whom to press or rob. Custodians and auditors may list it; the keys for that never
leave the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from keyclave.core.canonical import canonical
from keyclave.crypto.suites import MacAlgorithm
from keyclave.identity.elevation import Eligibility, Reach

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

_COMMITMENT = 32
_IV = 12


class _Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    principal: str
    reach: Reach
    reference: bool


def tag_of(desk: Desk, tenant: str, principal: str) -> bytes:
    """Return the keyed hash under which a principal's eligibility for break-glass is found: 32 bytes."""
    message = canonical("keyclave/break-glass-principal/1", principal)
    return desk.module.mac(desk.keyring.tenant_key(tenant, "context"), MacAlgorithm.HMAC_SHA_256, message)


def seal(desk: Desk, eligibility: Eligibility) -> bytes:
    """Return the sealed part of an eligibility, bound to its tenant and id."""
    if eligibility.reach is None:
        raise ValueError("an eligibility for break-glass has a reach")
    plain = msgspec.json.encode(_Sealed(eligibility.principal, eligibility.reach, eligibility.reference))
    sealer = desk.module.message_sealer(desk.keyring.tenant_key(eligibility.tenant, "operational"), _bound(eligibility))
    iv = desk.module.random(_IV)
    return sealer.commitment + iv + sealer.seal(iv, plain, b"")


def opened(desk: Desk, eligibility: Eligibility, sealed: bytes) -> Eligibility:
    """Return the eligibility with what was sealed of it."""
    commitment, iv, rest = sealed[:_COMMITMENT], sealed[_COMMITMENT : _COMMITMENT + _IV], sealed[_COMMITMENT + _IV :]
    key = desk.keyring.tenant_key(eligibility.tenant, "operational")
    plain = desk.module.open_message(key, _bound(eligibility), commitment, iv, rest, b"")
    found = msgspec.json.decode(plain, type=_Sealed)
    return msgspec.structs.replace(eligibility, principal=found.principal, reach=found.reach, reference=found.reference)


def _bound(eligibility: Eligibility) -> bytes:
    return canonical("keyclave/break-glass-eligibility/1", eligibility.tenant, eligibility.id)
