"""authenticator-enrol with a password: a first factor, never more. It opens nothing without a one-time code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta
from sqlalchemy import Connection

from keyclave.identity.password_rules import LONGEST, check_new_password
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Request
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.people.enrolment import (
    AuthenticatorView,
    check_may_enrol,
    keep,
    new_authenticator,
    replace_older,
    sealed_with,
    view,
)

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

Password = Annotated[str, Meta(min_length=1, max_length=LONGEST)]


class EnrolPassword(Request, kw_only=True):
    """The new password."""

    password: Password


def finish(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: EnrolPassword
) -> Callable[[Connection], AuthenticatorView]:
    """Keep the hash of a password, on a worker thread. An older password is replaced."""
    check_may_enrol(desk, attempt, "password")
    check_new_password(request.password, attempt.caller.principal)
    made = new_authenticator(desk, attempt, "password", "", 1, sealed=b"")
    made = sealed_with(desk, made, desk.people.passwords.hash(request.password))

    def change(transaction: Connection) -> AuthenticatorView:
        replace_older(transaction, attempt, "password")
        keep(transaction, attempt, made)
        return view(made)

    return change
