"""authenticator-enrol with recovery codes: ten, each good once, to enrol a new passkey with."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from keyclave.crypto.digest import sha256
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Answer, Empty
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.people.enrolment import check_may_enrol, keep, new_authenticator, replace_older
from keyclave.store.access import people

if TYPE_CHECKING:
    from keyclave.crypto.module import CryptoModule
    from keyclave.operations.desk import Desk

CODES = 10
_BYTES = 15  # 120 bits: more than the 112 from which a plain hash is enough (SP 800-63B-4 section 3.1.2.2)


class RecoveryCodes(Answer, kw_only=True):
    """The one time the codes are shown: print them and lock them away."""

    authenticator: str
    codes: list[str]


def finish(desk: Desk, attempt: Attempt, _key: LoadedKey | None, _request: Empty) -> Callable[[Connection], RecoveryCodes]:
    """Make a new set of codes; an older set opens nothing any more."""
    check_may_enrol(desk, attempt, "recovery")
    codes = [new_code(desk.module) for _ in range(CODES)]
    made = new_authenticator(desk, attempt, "recovery", "", 1)

    def change(transaction: Connection) -> RecoveryCodes:
        replace_older(transaction, attempt, "recovery")
        keep(transaction, attempt, made)
        people.insert_recovery_codes(transaction, made.id, [code_digest(made.id, code) for code in codes])
        return RecoveryCodes(authenticator=made.id, codes=codes)

    return change


def new_code(module: CryptoModule) -> str:
    """Return six groups of four letters and digits."""
    text = base64.b32encode(module.random(_BYTES)).decode().lower()
    return "-".join(text[i : i + 4] for i in range(0, 24, 4))


def code_digest(authenticator: str, code: str) -> bytes:
    """Return what is kept of a code; spaces, dashes and capitals are how people type."""
    plain = "".join(c for c in code.lower() if c.isalnum())
    return sha256(f"keyclave/recovery/1 {authenticator} {plain}".encode())
