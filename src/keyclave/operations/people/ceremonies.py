"""Ceremonies: what binds the two halves of a login or an enrolment, and can be finished once.

A ceremony is a text that the server signs and keeps nowhere: beginning one writes nothing, so nobody fills disk or record by
beginning many. It says what it is for, for whom and until when. Its SHA-256 is the challenge that an authenticator signs.
Finishing it writes that digest down, in the transaction of whatever it permits; a second time finds it there.

The key that signs is drawn at start: a restart ends what was begun.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection

from keyclave.core.canonical import canonical
from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import Refused
from keyclave.crypto.digest import keyed, same, sha256
from keyclave.store.access import sessions

if TYPE_CHECKING:
    from keyclave.crypto.module import CryptoModule

SECONDS = 300  # SP 800-63B-4 section 3.2.6 asks for short-lived challenges; a person has to find the security key
LONGEST = 2048
_MAC = 32


class Ceremony(msgspec.Struct, frozen=True, kw_only=True):
    """What a ceremony says. `subject`: what it is about, a session or an authenticator; `held`: what its second half needs.
    Time in microseconds."""

    kind: str
    tenant: str = ""
    principal: str = ""
    subject: str = ""
    held: str = ""
    nonce: str
    until: int


_decode = msgspec.json.Decoder(Ceremony).decode


class Ceremonies:
    """Begins and ends them."""

    def __init__(self, module: CryptoModule) -> None:
        self._module = module
        self._key = module.random(32)

    def begin(self, kind: str, now: int, *, tenant: str = "", principal: str = "", subject: str = "", held: str = "") -> str:
        """Return the text of a new ceremony."""
        nonce = base64.urlsafe_b64encode(self._module.random(16)).decode().rstrip("=")
        named = {"tenant": tenant, "principal": principal, "subject": subject, "held": held}
        said = msgspec.json.encode(Ceremony(kind=kind, nonce=nonce, until=now + SECONDS * MICROSECONDS, **named))
        return base64.urlsafe_b64encode(said + self._mac(said)).decode().rstrip("=")

    def read(self, text: str, kind: str, now: int) -> Ceremony:
        """Return what a ceremony of this kind says; one that is not ours, of another kind or over is refused alike."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True) if len(text) <= LONGEST else b""
        except (ValueError, binascii.Error):
            raw = b""
        said, mac = raw[:-_MAC], raw[-_MAC:]
        if not said or not same(self._mac(said), mac):
            raise over()
        ceremony = _decode(said)
        if ceremony.kind != kind or now >= ceremony.until:
            raise over()
        return ceremony

    def spend(self, transaction: Connection, text: str, ceremony: Ceremony, now: int) -> None:
        """Use a ceremony up, inside the transaction of what it permits: the second of two is refused."""
        digest, name = challenge(text), (ceremony.kind, ceremony.tenant)
        if not sessions.open_ceremony(transaction, digest, name[0], name[1], "spent", now, ceremony.until):
            raise over()

    def derive(self, text: str, label: str) -> str:
        """Return 43 characters that only we can make of a ceremony's text: what its second half must show, kept nowhere."""
        made = keyed(self._key, canonical("keyclave/ceremony-derived/1", label, text))
        return base64.urlsafe_b64encode(made).decode().rstrip("=")

    def _mac(self, said: bytes) -> bytes:
        return keyed(self._key, canonical("keyclave/ceremony/1", said))


def challenge(text: str) -> bytes:
    """Return what an authenticator signs for a ceremony: the SHA-256 of its text, 32 bytes."""
    return sha256(text.encode())


def over() -> Refused:
    """Return the one answer for a ceremony that is foreign, of another kind, over or finished before."""
    return Refused("this ceremony is over", "begin again")
