"""An unsealed node hands the root key on to a sealed one: whom it gives it to, and how it travels (spec/nodes.md).

    sealed node                                    unsealed node
    POST /v1/node-unseal/nonce        ----->       a nonce for this certificate, once, for half a minute
    POST /v1/node-unseal              ----->       certificate's name permitted? row of that node sealed and live? nonce?
      its name, a fresh public key    <-----       the root key under a key that both agree on (ECDH P-384), and nobody else

Both leave an event before the key is of any use: `node-unseal` here, `unseal` there.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

import msgspec

from keyclave.core.canonical import canonical
from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import KeyclaveError, LimitReached, Malformed, Refused, Sealed, WrongState
from keyclave.crypto.arena import Slot
from keyclave.crypto.module import CryptoModule, KeyPair
from keyclave.crypto.suites import KeySpec
from keyclave.identity.caller import Caller, Credential
from keyclave.identity.peer import Peer
from keyclave.identity.roles import Role
from keyclave.operations.attempt import Attempt, Reply
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Answer, Base64, Request
from keyclave.operations.invalidation import SEAL
from keyclave.operations.unseal import close_house, open_house
from keyclave.store.nodes import database_time, read_nodes

CURVE = KeySpec.ECDH_P384
_NONCE_SECONDS = 30
_NONCES = 512
_OF_ONE = 8  # nonces that are out for one certificate: its oldest goes for the next, so that nobody keeps the others from theirs


class NonceAnswer(msgspec.Struct, kw_only=True):
    """To be sent back once, over a connection with the same certificate."""

    nonce: str
    node: str


class HandOnRequest(Request, kw_only=True):
    """`node` is the asking node's name among the nodes; `public` its fresh key (SubjectPublicKeyInfo, base64)."""

    node: str
    nonce: str
    public: Base64


class HandOnAnswer(Answer, kw_only=True):
    """`sealed` is the root key (base64), for whoever has the private half of the asked `public`."""

    node: str
    public: Base64
    sealed: Base64


def give_nonce(desk: Desk, peer: Peer) -> NonceAnswer:
    """Return a nonce to a node that may ask."""
    _name_of(desk, peer)
    now, rules = desk.clock.now(), desk.handing_on
    for old in [nonce for nonce, (_, until) in rules.nonces.items() if until < now]:
        del rules.nonces[old]
    mine = [nonce for nonce, (thumbprint, _) in rules.nonces.items() if thumbprint == peer.thumbprint]
    for old in mine[: 1 - _OF_ONE]:
        del rules.nonces[old]
    if len(rules.nonces) >= _NONCES:
        raise LimitReached("too many nodes ask at once", "try again in half a minute")
    nonce = desk.module.random(16).hex()
    rules.nonces[nonce] = peer.thumbprint, now + _NONCE_SECONDS * MICROSECONDS
    return NonceAnswer(nonce=nonce, node=desk.store.node)


def hand_on(desk: Desk, peer: Peer, request: HandOnRequest, reply: Reply) -> None:
    """Seal the root key to the asking node, once that is an event. What is refused to a known node is an event as well."""
    name = _name_of(desk, peer)

    def answer(attempt: Attempt) -> None:
        try:
            if attempt.error is None:
                _check_still(desk)
        except KeyclaveError as error:
            attempt.answer, attempt.error = None, error
        reply(attempt)

    attempt = Attempt(desk, "node-unseal", _node(name), peer, answer)
    attempt.detail = {"node": request.node[:64]}
    try:
        kept = desk.handing_on.nonces.pop(request.nonce, None)
        if kept is None or kept[0] != peer.thumbprint or kept[1] < desk.clock.now():
            raise Refused("this nonce is not one for this certificate, or was used", "ask for a new one")
        _check_still(desk)
        _check_row(desk, request.node)
        attempt.answer = _sealed(desk, request)
    except KeyclaveError as error:
        attempt.error = error
    desk.enqueue(attempt)


def _name_of(desk: Desk, peer: Peer) -> str:
    """Return the name that the peer's certificate gives it, if that is a node's."""
    named = desk.callers.certified.name(peer)
    rules = desk.handing_on
    if named.authority.internal or named.authority.label != rules.authority or named.name not in rules.names:
        raise Refused("this certificate is not one of a node that may be unsealed", "see `may_unseal` in [nodes]")
    return named.name


def _check_still(desk: Desk) -> None:
    if desk.membership is None:
        raise WrongState("this server has no other nodes", "give it custodians' shares")
    desk.membership.check()
    if desk.vault.sealed:
        raise Sealed


def _check_row(desk: Desk, node: str) -> None:
    """Hold the asking node to what the database says of it: it serves the same store, lives, and is sealed.

    A node that began after a seal is never told of it. So whoever has not applied the newest seal yet gives nothing: of one that
    comes after this snapshot the asking node, which has its row in it, is told.
    """
    assert desk.membership is not None  # noqa: S101
    membership = desk.membership
    now, rows, missed = desk.store.read(
        lambda conn: (database_time(conn), read_nodes(conn), membership.changed_since(conn, membership.change))
    )
    if any(name == SEAL for _, name in missed):
        raise Sealed
    row = next((row for row in rows if row.id == node), None)
    if node == desk.store.node:
        raise Refused("that is this node", "ask another one")
    if row is None or row.left_at is not None or row.lease_until < now:
        raise Refused("no such node lives on this store", "look at `keyclave node list`")
    if not row.sealed:
        raise Refused("that node is unsealed already", "nothing to do")


def _sealed(desk: Desk, request: HandOnRequest) -> HandOnAnswer:
    theirs = _bytes(request.public)
    pair = desk.module.generate_pair(CURVE)
    try:
        terms = _terms(request, desk.store.node, theirs, pair.public)
        with _between(desk.module, pair, theirs, terms) as key, desk.vault.give_root() as root:
            sealed = desk.module.seal(key, root, terms)
    finally:
        pair.private.wipe()
    return HandOnAnswer(node=desk.store.node, public=_text(pair.public), sealed=_text(sealed))


class Asking:
    """The sealed node's side: one question to one peer."""

    def __init__(self, desk: Desk, nonce: NonceAnswer) -> None:
        self._desk = desk
        self._pair: KeyPair = desk.module.generate_pair(CURVE)
        self._closed = desk.closed
        self._peer = nonce.node
        self.request = HandOnRequest(node=desk.store.node, nonce=nonce.nonce, public=_text(self._pair.public))

    def accept(self, given: HandOnAnswer, told: Callable[[bool], None]) -> None:
        """On the loop: open the house with what was given; `told` whether it stays open, once that is an event.

        If this node was told to seal meanwhile, what is on its way was handed on before that, and is thrown away.
        """
        desk = self._desk
        if not desk.vault.sealed or desk.closed != self._closed:
            self._pair.private.wipe()
            raise WrongState("this node was sealed or unsealed meanwhile", "give custodians' shares")
        if given.node != self._peer:
            raise Malformed("another node answers than the one that was asked", "look at the network between the nodes")
        theirs = _bytes(given.public)
        terms = _terms(self.request, given.node, self._pair.public, theirs)
        with _between(desk.module, self._pair, theirs, terms) as key:
            desk.vault.take_root(desk.module.open_slot(key, _bytes(given.sealed), terms))
        self._pair.private.wipe()
        open_house(desk)

        def answered(attempt: Attempt) -> None:
            if not attempt.event and not desk.vault.sealed:  # nothing happens without its record
                close_house(desk)
            told(not desk.vault.sealed)

        attempt = Attempt(desk, "unseal", _node("node"), Peer(""), answered)
        attempt.detail = {"by": given.node, "sealed": 0}
        desk.enqueue(attempt)


def _between(module: CryptoModule, pair: KeyPair, theirs: bytes, terms: bytes) -> Slot:
    """Return the key that both ends derive from their agreement, bound to everything that was said."""
    with module.agree(pair.private, CURVE, theirs) as shared:
        return module.derive(shared, terms, 32)


def _terms(request: HandOnRequest, giver: str, asked: bytes, given: bytes) -> bytes:
    return canonical("keyclave/node-unseal/1", request.nonce, giver, request.node, asked, given)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise Malformed("this is not base64", "send what spec/nodes.md says") from None


def _node(name: str) -> Caller:
    """Return the caller of an attempt that is a node's."""
    return Caller(
        Credential(
            id="", tenant="", principal=name[:128], role=Role.CUSTODIAN, scope=None, created_at=0, created_by="", expires_at=0
        )
    )
