"""authenticator-begin and authenticator-enrol with a passkey: the device makes a key and keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from keyclave.identity.passkeys import verify_registration
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Empty, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.people.ceremonies import challenge
from keyclave.operations.people.enrolment import (
    AuthenticatorView,
    Ceremony,
    Label,
    bound_level,
    check_may_enrol,
    check_same_caller,
    is_bound_lower,
    keep,
    new_authenticator,
    view,
)
from keyclave.operations.people.webauthn_forms import NewPasskey, PasskeyBegun, creation, to_plain
from keyclave.store.access import people

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

KIND = "enrol-passkey"


class EnrolPasskey(Request, kw_only=True):
    """What the device answered to the ceremony, and how its owner calls it."""

    ceremony: Ceremony
    credential: NewPasskey
    label: Label = ""


def begin(desk: Desk, attempt: Attempt, _key: LoadedKey | None, _request: Empty) -> PasskeyBegun:
    """Begin: a challenge for a device, with the passkeys that it must not make twice."""
    check_may_enrol(desk, attempt, "passkey")
    tenant, principal = attempt.caller.tenant, attempt.caller.principal
    ceremony = desk.people.ceremonies.begin(KIND, attempt.at, tenant=tenant, principal=principal, subject=attempt.caller.id)
    enrolled = desk.store.read(lambda conn: people.list_authenticators(conn, tenant, principal))
    if attempt.caller.standing.how == "invitation":  # what it replaces may be made again on the same device
        enrolled = [one for one in enrolled if not is_bound_lower(one)]
    return creation(desk.people, ceremony, tenant, principal, enrolled)


def finish(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: EnrolPasskey
) -> Callable[[Connection], AuthenticatorView]:
    """Finish: check what the device answered and keep its public key."""
    check_may_enrol(desk, attempt, "passkey")
    said = desk.people.ceremonies.read(request.ceremony, KIND, attempt.at)
    check_same_caller(attempt, said)
    made = verify_registration(desk.people.relying, to_plain(request.credential), challenge(request.ceremony))
    level = bound_level(attempt, made.aal)
    passkey = new_authenticator(
        desk, attempt, "passkey", request.label, level, public=made.public, handle=made.handle, aaguid=made.aaguid,
        backup_eligible=made.backup_eligible, sign_count=made.sign_count,
    )  # fmt: skip

    def change(transaction: Connection) -> AuthenticatorView:
        desk.people.ceremonies.spend(transaction, request.ceremony, said, attempt.at)
        keep(transaction, attempt, passkey)
        return view(passkey)

    return change
