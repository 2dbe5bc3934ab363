"""A passkey's assertion against what is known of the passkey: shared by logging in, stepping up and whatever else asks for one.

A counter that goes back, though the signature is right, means that a copy of the key may be about: the authenticator is
suspended, its sessions end, and the event says so as an alarm.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from keyclave.core.errors import Refused
from keyclave.identity.passkeys import Asserted, refused, verify_assertion
from keyclave.operations.attempt import Attempt
from keyclave.operations.people.ceremonies import challenge
from keyclave.operations.people.webauthn_forms import PasskeyProof, from_base64url, to_plain
from keyclave.store.access import people, sessions
from keyclave.store.access.people import Authenticator

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

logger = logging.getLogger("keyclave.people")

# The generator of P-256 as a COSE key (SEC 2 section 2.4.2): nobody has its private key in a passkey. Verifying against it costs
# what verifying against a real one does, so the time of an answer does not tell which passkeys exist.
_NOBODYS = bytes.fromhex(
    "a5010203262001"
    "2158206b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "2258204fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)


def find_passkey(desk: Desk, proof: PasskeyProof) -> Authenticator | None:
    """Return the live passkey that an assertion names, or None."""
    handle = from_base64url(proof.raw_id)
    found = desk.store.read(lambda conn: people.find_passkey(conn, handle)) if handle else None
    return found if found is not None and found.revoked_at is None else None


def prove(desk: Desk, found: Authenticator | None, proof: PasskeyProof, ceremony: str) -> Asserted:
    """Verify an assertion over a ceremony; for a passkey that does not exist the same work is done before it is refused."""
    relying, said = desk.people.relying, to_plain(proof)
    known = {"public": _NOBODYS, "sign_count": 0, "backup_eligible": False} if found is None else {
        "public": found.public or b"", "sign_count": found.sign_count, "backup_eligible": found.backup_eligible,
        "user_handle": desk.people.user_handle(found.tenant, found.principal),
    }  # fmt: skip
    asserted = verify_assertion(relying, said, challenge(ceremony), **known)  # type: ignore[arg-type]
    if found is None:
        raise refused("the passkey was not accepted", None)
    return asserted


def count_or_suspend(transaction: Connection, attempt: Attempt, found: Authenticator, asserted: Asserted) -> bool:
    """Note the passkey's use, inside the transaction; False where its counter went back: it is suspended, and the attempt fails.

    What is written stays: the refusal is set on the attempt, not raised.
    """
    if not asserted.regressed and people.count_use(transaction, found.id, asserted.sign_count, attempt.at):
        return True
    people.revoke_authenticator(transaction, found.id, attempt.at, "sign-count")
    sessions.revoke_sessions(transaction, found.tenant, found.principal, attempt.at, how=found.id)
    attempt.detail = {"alarm": "sign-count", "authenticator": found.id, "principal": found.principal}
    attempt.drops = (found.principal,)
    attempt.error = Refused(
        "the passkey's counter went back: there may be a copy of it, so it is suspended",
        "log in another way; tell a custodian",
    )
    logger.critical("the counter of passkey %s went back: it is suspended", found.id)
    return False
