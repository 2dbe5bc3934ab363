"""unseal, seal, health, status: whether the server may use keys at all."""

from __future__ import annotations

import msgspec

from keyclave import __version__
from keyclave.core.errors import Broken, KeyclaveError, TooLarge, Undecipherable
from keyclave.crypto.log_keys import LogSigner
from keyclave.identity.caller import Caller, Credential
from keyclave.identity.peer import Peer
from keyclave.identity.roles import Role
from keyclave.operations.attempt import Attempt, Change, Reply
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Answer, Empty, Request
from keyclave.operations.invalidation import SEAL
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.sealing_reasons import Why
from keyclave.operations.siblings import Taken, not_known
from keyclave.operations.tenants import check_home
from keyclave.operations.vault import already_open
from keyclave.store import meta_rows, tenant_rows
from keyclave.store.access import shares

LOG_SEED = "log.seed"
LOG_VKEYS = "log.vkeys"  # public: who verifies the log needs them most when the server is sealed
LOG_CONTEXT = b"keyclave/log-seed/1"
_LONGEST = 512


class UnsealRequest(Request, kw_only=True):
    """A custodian's share, as text."""

    share: str


class UnsealAnswer(Answer, kw_only=True):
    """How far the unsealing is."""

    sealed: bool
    threshold: int
    received: int


class SealAnswer(Answer, kw_only=True):
    """The server holds no root key any more."""

    sealed: bool


class ModuleView(msgspec.Struct):
    """The cryptographic module; certificate is null for "not validated"."""

    name: str
    version: str
    fips: bool
    certificate: str | None


class Progress(msgspec.Struct):
    """Shares needed and received."""

    threshold: int
    received: int


class LogView(msgspec.Struct):
    """The log's name and size."""

    origin: str
    size: int


class Status(Answer, kw_only=True):
    """What anybody may know of the server. `why_sealed`: `started`, `sealed`, `lost` (every process that held the root key ended)
    or `behind` (the node missed what others changed); left out while it is open."""

    version: str
    sealed: bool
    why_sealed: Why | None = None
    development: bool
    people: str
    root: str
    unseal: Progress
    module: ModuleView
    log: LogView


def offer_share(desk: Desk, peer: Peer, request: UnsealRequest, reply: Reply, caller: Caller | None = None) -> None:
    """Take a share from whoever brings it: the share is the authority. Every one that is looked at is an event.

    `caller` is who brings it, where that is known: it permits and refuses nothing, but the record says whether it is whoever
    holds the share. What is refused without a look is answered without an event: one for each would let anybody write the log
    full.
    """
    if not desk.vault.sealed:
        raise already_open()
    if len(request.share) > _LONGEST:
        raise TooLarge("a share is not that long", "send the text of one share")
    desk.siblings.offer(request.share, lambda taken: _taken(desk, peer, taken, reply, caller))


def _taken(desk: Desk, peer: Peer, taken: Taken, reply: Reply, caller: Caller | None) -> None:
    """The share was collected; with the last one the root's key is here, and the house is opened."""

    def answer(attempt: Attempt) -> None:
        if desk.vault.sealed or taken.root is None:
            reply(attempt)
        elif not attempt.event:  # nothing happens without its record: an opening that left none is undone
            close_house(desk)
            reply(attempt)
        else:
            desk.siblings.open_others(lambda known: _reply(reply, attempt, known, "unsealed"))

    attempt = Attempt(desk, "unseal", caller or _somebody(), peer, answer)
    if not taken.looked_at:
        attempt.error = taken.error
        reply(attempt)
        return
    threshold = desk.vault.threshold
    try:
        if taken.error is not None:
            raise taken.error
        if taken.root is not None:
            if not desk.vault.sealed:  # somebody else's last share was faster
                raise already_open()
            desk.vault.take_root(taken.root)
            open_house(desk)
        attempt.answer = UnsealAnswer(sealed=desk.vault.sealed, threshold=threshold, received=taken.received)
    except KeyclaveError as error:
        attempt.error = error
    attempt.detail = _said(desk, taken, caller) | {"received": taken.received, "sealed": int(desk.vault.sealed)}
    attempt.detail = dict(sorted((attempt.detail | {"threshold": threshold}).items()))
    desk.enqueue(attempt)


def _said(desk: Desk, taken: Taken, caller: Caller | None) -> dict[str, str | int]:
    """Return what is known of a share that was given: its number, who holds it, whether they brought it themselves.

    Nothing is refused for it: in an emergency whoever has the paper opens the server, and the record tells."""
    if not taken.share:
        return {}
    said: dict[str, str | int] = {"share": taken.share}
    try:
        holding = desk.store.read(lambda conn: shares.read_holder(conn, desk.vault.set_id, taken.share))
    except KeyclaveError:  # a store that does not answer keeps no event either
        return said
    if holding is not None:
        said["holder"] = holding.principal
        if caller is not None:
            said["by_holder"] = int((caller.tenant, caller.principal) == (holding.tenant, holding.principal))
    return said


def _reply(reply: Reply, attempt: Attempt, known: bool, what: str) -> None:
    """Answer, if it is known of the others too."""
    if not known and attempt.error is None:
        attempt.answer, attempt.error = None, not_known(what)
    reply(attempt)


def open_house(desk: Desk) -> None:
    """With the root open: recover the tenants' keys and the log's seed, after a real round trip of the root."""
    try:
        desk.vault.root.health()
        desk.keyring.unseal(desk.vault.root)
        sealed = desk.store.read(lambda conn: meta_rows.read_meta(conn, LOG_SEED))
        if sealed is None:
            raise Broken("the log's seed is gone", "keep the database as evidence, and restore a backup")
        desk.log.unseal(LogSigner(desk.vault.root.recover(sealed, LOG_CONTEXT)))
    except Undecipherable:
        close_house(desk)
        raise Broken(
            "the root opens, but what it protects does not", "keep the database as evidence, and restore a backup"
        ) from None
    except BaseException:
        close_house(desk)
        raise


def seal(desk: Desk, attempt: Attempt, _key: LoadedKey | None, _request: Empty) -> Change:
    """Wipe every key from memory. The event of this is signed into a checkpoint after the next unsealing.

    Whoever else serves this home wipes theirs before this is answered; what they do meanwhile is not kept (SEAL is a change).
    """
    check_home(desk, attempt.caller)
    if attempt.dry_run:
        return lambda _transaction: SealAnswer(sealed=True)
    close_house(desk, Why.SEALED)
    reply = attempt.reply
    attempt.reply = lambda done: desk.siblings.close_others(lambda known: _reply(reply, done, known, "sealed"))
    attempt.touches = (SEAL,)
    return lambda _transaction: SealAnswer(sealed=True)


def close_house(desk: Desk, why: Why | None = None) -> None:
    """Let go of everything secret, after a last checkpoint."""
    try:
        desk.log.seal()
    finally:  # a full disk keeps the last checkpoint from being signed, not the keys from being wiped
        desk.let_go(why)


def status(desk: Desk) -> Status:
    """Describe the server to anybody: nothing here helps an attacker more than its port does."""
    info = desk.module.info()
    return Status(
        version=__version__,
        sealed=desk.vault.sealed,
        why_sealed=desk.why_sealed if desk.vault.sealed else None,
        development=desk.development,
        people=_people(desk),
        root=desk.vault.root.kind,
        unseal=Progress(threshold=desk.vault.threshold, received=desk.siblings.received),
        module=ModuleView(name=info.name, version=info.version, fips=info.fips, certificate=info.certificate),
        log=LogView(origin=desk.log.origin, size=desk.log.placed()),
    )


def _people(desk: Desk) -> str:
    """Say how people prove themselves here: `passkeys`, or `tokens` where a bearer token is enough for some duty."""
    desk.people.home = desk.people.home or desk.store.read(tenant_rows.home_tenant)
    asked = desk.access.revisions.of(desk.people.home).rules.assurance
    return "passkeys" if min(asked.custodian, asked.operator, asked.auditor) > 1 else "tokens"


def _somebody() -> Caller:
    """Return the caller of an attempt that carries no credential."""
    credential = Credential(
        id="", tenant="", principal="share-holder", role=Role.CUSTODIAN, scope=None, created_at=0, created_by="", expires_at=0
    )
    return Caller(credential)
