"""authenticator-begin and authenticator-enrol with a code generator: the second choice, beside a password.

Beginning makes the seed and shows it once; the ceremony carries it sealed, so nothing is kept of what is never finished.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core.errors import Refused
from keyclave.identity import one_time_codes
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Answer, Empty, Request
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.people.enrolment import (
    AuthenticatorView,
    Ceremony,
    Label,
    check_may_enrol,
    check_same_caller,
    keep,
    new_authenticator,
    open_bytes,
    replace_older,
    seal_bytes,
    sealed_with,
    view,
)

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

KIND = "enrol-totp"
Code = Annotated[str, Meta(min_length=6, max_length=6, pattern=r"^[0-9]{6}$(?!\n)")]


class TotpBegun(Answer, kw_only=True):
    """`uri` is for a QR code, `seed` (base32) for typing. Both are secret and shown once."""

    ceremony: str
    seed: str
    uri: str


class EnrolTotp(Request, kw_only=True):
    """The code that the generator shows now: proof that it took the seed."""

    ceremony: Ceremony
    code: Code
    label: Label = ""


def begin(desk: Desk, attempt: Attempt, _key: LoadedKey | None, _request: Empty) -> TotpBegun:
    """Begin: a seed for the generator."""
    check_may_enrol(desk, attempt, "totp")
    caller = attempt.caller
    seed = desk.module.random(one_time_codes.SEED)
    sealed = seal_bytes(desk, caller.tenant, _context(caller.id), seed)
    named = {"tenant": caller.tenant, "principal": caller.principal, "subject": caller.id}
    ceremony = desk.people.ceremonies.begin(KIND, attempt.at, held=base64.b64encode(sealed).decode(), **named)
    uri = one_time_codes.enrolment_uri(seed, caller.principal, desk.people.relying.name)
    return TotpBegun(ceremony=ceremony, seed=one_time_codes.seed_text(seed), uri=uri)


def finish(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: EnrolTotp) -> Callable[[Connection], AuthenticatorView]:
    """Finish: the generator shows the right code, and that code counts as used. An older generator is replaced."""
    check_may_enrol(desk, attempt, "totp")
    said = desk.people.ceremonies.read(request.ceremony, KIND, attempt.at)
    check_same_caller(attempt, said)
    caller = attempt.caller
    seed = open_bytes(desk, caller.tenant, _context(caller.id), base64.b64decode(said.held))
    step = one_time_codes.matching_step(seed, request.code, attempt.at)
    if step is None:
        raise Refused("the code is not the one of this generator now", "check the clock of the device, and try the next code")
    made = new_authenticator(desk, attempt, "totp", request.label, 2, sealed=b"", sign_count=step)
    made = sealed_with(desk, made, seed)

    def change(transaction: Connection) -> AuthenticatorView:
        desk.people.ceremonies.spend(transaction, request.ceremony, said, attempt.at)
        replace_older(transaction, attempt, "totp")
        keep(transaction, attempt, made)
        return view(made)

    return change


def _context(caller: str) -> str:
    return f"{KIND} {caller}"
