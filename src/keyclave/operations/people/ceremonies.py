"""Ceremonies: what binds the two halves of a login or an enrolment, and can be finished once, at whichever node.

A ceremony is a text that the server seals and keeps nowhere: beginning one writes nothing, so nobody fills disk or record by
beginning many. It says what it is for, for whom and until when. Its SHA-256 is the challenge that an authenticator signs.
Finishing it writes that digest down, in the transaction of whatever it permits; a second time, at any node, finds it there.

What seals it decides who can end it, and the first byte says which it was:

* `HOUSE`, the operational key of the home tenant: every node that is unsealed, and every start of one, has it;
* `SETTING`, made of a value in the store's settings, while a node is sealed: whoever reads the database has it too, so it is
  believed only where a device signs the ceremony, and only by a node that is sealed;
* `ALONE`, drawn at start, for what else is begun at a sealed node: the process that began it ends it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection

from keyclave.core.canonical import canonical
from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import Refused, Sealed, Undecipherable
from keyclave.crypto.arena import Slot, slot_from
from keyclave.crypto.digest import keyed, sha256
from keyclave.crypto.suites import MacAlgorithm
from keyclave.store.access import sessions

if TYPE_CHECKING:
    from keyclave.crypto.module import CryptoModule

SECONDS = 300  # SP 800-63B-4 section 3.2.6 asks for short-lived challenges; a person has to find the security key
LONGEST = 2048
SIGNED = frozenset(
    {"login", "step-up", "enrol-passkey", "enrol-key"}
)  # kinds that are worth nothing without a device's signature
HOUSE, SETTING, ALONE = 1, 2, 3
_NONCE, _COMMITMENT, _IV = 16, 32, 12
_HEAD = 1 + _NONCE + _COMMITMENT + _IV
_REMEMBERED = 3600 * MICROSECONDS  # beyond its end that a finished one stays written down: nodes whose clocks differ agree on it


class Ceremony(msgspec.Struct, frozen=True, kw_only=True):
    """What a ceremony says. `subject`: what it is about, a session or an authenticator; `held`: what its second half needs.
    Time in microseconds."""

    kind: str
    tenant: str = ""
    principal: str = ""
    subject: str = ""
    held: str = ""
    until: int


_decode = msgspec.json.Decoder(Ceremony).decode


def _no_house() -> Slot:
    raise Sealed


class Ceremonies:
    """Begins and ends them. `house` returns the key that all nodes share, or raises `Sealed`."""

    def __init__(self, module: CryptoModule, secret: bytes) -> None:
        self._module = module
        self._alone = module.random_slot(32)
        self._setting = slot_from(bytearray(keyed(secret, canonical("keyclave/ceremony-setting/1"))))
        self.house: Callable[[], Slot] = _no_house

    def begin(self, kind: str, now: int, *, tenant: str = "", principal: str = "", subject: str = "", held: str = "") -> str:
        """Return the text of a new ceremony."""
        said = Ceremony(
            kind=kind, tenant=tenant, principal=principal, subject=subject, held=held, until=now + SECONDS * MICROSECONDS
        )
        under, key = self._sealing(kind)
        drawn = self._module.random(_NONCE + _IV)
        nonce, iv = drawn[:_NONCE], drawn[_NONCE:]
        sealer = self._module.message_sealer(key, _info(nonce))  # a key for each: no IV is ever there twice under one
        head = bytes((under,)) + nonce + sealer.commitment + iv
        sealed = sealer.seal(iv, msgspec.json.encode(said), head)
        return base64.urlsafe_b64encode(head + sealed).decode().rstrip("=")

    def read(self, text: str, kind: str, now: int) -> Ceremony:
        """Return what a ceremony of this kind says; one that is not ours, of another kind or over is refused alike.

        Raises `Sealed` for one that this node could read if it were not.
        """
        raw = _raw(text)
        head, sealed = raw[:_HEAD], raw[_HEAD:]
        if not sealed:
            raise over()
        key = self._opening(head[0], kind)
        nonce, commitment = head[1 : 1 + _NONCE], head[1 + _NONCE : -_IV]
        try:
            said = self._module.open_message(key, _info(nonce), commitment, head[-_IV:], sealed, head)
        except Undecipherable:
            raise over() from None
        ceremony = _decode(said)
        if ceremony.kind != kind or now >= ceremony.until:
            raise over()
        return ceremony

    def spend(self, transaction: Connection, text: str, ceremony: Ceremony, now: int) -> None:
        """Use a ceremony up, inside the transaction of what it permits: the second of two is refused, at whichever node."""
        until = max(ceremony.until, now) + _REMEMBERED
        if not sessions.spend_ceremony(transaction, challenge(text), ceremony.kind, ceremony.tenant, until):
            raise over()

    def derive(self, text: str, label: str) -> str:
        """Return 43 characters that only we can make of a ceremony's text: what its second half must show, kept nowhere."""
        raw = _raw(text)
        if not raw:
            raise over()
        key = self._opening(raw[0], "")
        with self._module.derive(key, canonical("keyclave/ceremony-derivation/2"), 32) as own:
            made = self._module.mac(own, MacAlgorithm.HMAC_SHA_256, canonical("keyclave/ceremony-derived/2", label, text))
        return base64.urlsafe_b64encode(made).decode().rstrip("=")

    def _sealing(self, kind: str) -> tuple[int, Slot]:
        try:
            return HOUSE, self.house()
        except Sealed:
            return (SETTING, self._setting) if kind in SIGNED else (ALONE, self._alone)

    def _opening(self, under: int, kind: str) -> Slot:
        if under == HOUSE:
            return self.house()
        if under == ALONE:
            return self._alone
        if under != SETTING or kind not in SIGNED or self._unsealed():
            raise over()
        return self._setting

    def _unsealed(self) -> bool:
        try:
            self.house()
        except Sealed:
            return False
        return True


def challenge(text: str) -> bytes:
    """Return what an authenticator signs for a ceremony: the SHA-256 of its text, 32 bytes."""
    return sha256(text.encode())


def over() -> Refused:
    """Return the one answer for a ceremony that is foreign, of another kind, over or finished before."""
    return Refused("this ceremony is over", "begin again")


def _raw(text: str) -> bytes:
    """Return the bytes of a ceremony's text, or none. One way to write them is taken: what is finished is known by its text."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True) if len(text) <= LONGEST else b""
    except (ValueError, binascii.Error):
        return b""
    return raw if base64.urlsafe_b64encode(raw).decode().rstrip("=") == text else b""


def _info(nonce: bytes) -> bytes:
    return canonical("keyclave/ceremony/2", nonce)
