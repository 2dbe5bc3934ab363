"""Who asks: bearer tokens and sessions to callers, from memory where possible. What changes a caller drops them from here at
once.

A session's last use is noted here and written to the store now and then (`take_seen`): a request must not cost a write. Other
nodes note theirs, so one that seems idle here is looked up again before it is refused; and a use that is worth knowing there,
because the one they know is a third of the idle time ago, is written without delay (`seen_is_due`).
"""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from keyclave.core.clock import MICROSECONDS, Clock
from keyclave.core.errors import Unauthenticated
from keyclave.crypto.bearer import token_digest
from keyclave.identity.caller import Caller, Credential, Standing
from keyclave.identity.peer import Peer
from keyclave.identity.roles import SHARE_HOLDER
from keyclave.operations.standing import stand
from keyclave.operations.workloads.presented import Presented
from keyclave.operations.workloads.recognition import Recognition
from keyclave.operations.workloads.settings import WorkloadSettings
from keyclave.store.access import credentials, people, sessions, workloads
from keyclave.store.access.sessions import Session
from keyclave.store.access.shares import holds_share
from keyclave.store.interface import Store

_CAPACITY = 16_384
_LONGEST = 128  # characters of a token


class Callers:
    """Finds the caller of a token. One answer for absent, unknown, expired, idle and revoked."""

    def __init__(self, store: Store, clock: Clock, settings: WorkloadSettings) -> None:
        self._store = store
        self._clock = clock
        self.certified = Recognition(store, clock, settings)
        self.presented = Presented(store, clock, settings, self.certified)
        self._by_digest: dict[bytes, Caller] = {}
        self._digest_of: dict[str, bytes] = {}
        self._of_principal: dict[tuple[str, str], set[bytes]] = {}
        self._idle: dict[str, int] = {}  # microseconds without a request after which a session ends
        self._seen: dict[str, int] = {}  # when a session was last used
        self._saved: dict[str, int] = {}  # which of its uses the store knows
        self._unsaved: set[str] = set()
        self.seen_is_due = False  # whether other nodes should hear of a use soon

    def authenticate(self, token: bytes) -> Caller:
        """Return the caller of `token`; the look-up is by digest, so its time tells nothing of the token."""
        if not token or len(token) > _LONGEST:
            raise nobody()
        digest = token_digest(token)
        caller = self._by_digest.get(digest)
        if caller is None or self._clock.now() >= caller.expires_at:  # something of it has ended, perhaps not all
            caller = self._load(digest)
        if caller.id in self._idle:
            self._note_use(caller.id)
        return caller

    def present(self, token: bytes, peer: Peer) -> Caller:
        """Return the caller of a token of any kind, as it comes over a connection: a bound one only with its certificate."""
        caller = self.presented.caller(token, peer)
        if caller is None:
            caller = self.authenticate(token)
            if caller.standing.thumbprint:
                self.presented.check_bound(caller, peer)
        return caller

    def again(self, caller: Caller, peer: Peer) -> Caller:
        """Return the same caller as they stand now, after something about them changed; one who is gone is nobody."""
        if caller.live and self._clock.now() < caller.expires_at:
            return caller
        if caller.id.startswith("crt_"):
            return self.certified.caller(peer)
        if caller.digest is None:
            raise nobody()
        known = self._by_digest.get(caller.digest)
        if known is None or self._clock.now() >= known.expires_at:
            known = self._load(caller.digest)
        if known.standing.thumbprint:
            self.presented.check_bound(known, peer)
        return known

    def forget(self, tenant: str, name: str) -> None:
        """Drop what has changed: a credential, or every caller who is a principal of the tenant."""
        if name.startswith(("crt_", "wkl_", "ca_")):
            self.certified.forget(name)
            return
        self.certified.forget_principal(tenant, name)
        self._drop(self._digest_of.get(name))
        for digest in self._of_principal.pop((tenant, name), ()):
            self._drop(digest)

    def forget_all(self) -> None:
        """Drop everybody."""
        self.certified.forget_all()
        for digest in list(self._by_digest):
            self._drop(digest)

    def _load(self, digest: bytes) -> Caller:
        self._drop(digest)
        if len(self._by_digest) >= _CAPACITY:  # before it is read: what is read notes when its session is idle
            for held in list(self._by_digest):
                self._drop(held)
        now = self._clock.now()
        caller = self._store.read(lambda conn: self._read(conn, digest, now))
        if caller is None or now >= caller.expires_at:
            raise nobody()
        caller.digest = digest
        self._by_digest[digest] = caller
        self._digest_of[caller.id] = digest
        self._of_principal.setdefault((caller.tenant, caller.principal), set()).add(digest)
        return caller

    def _read(self, conn: Connection, digest: bytes, now: int) -> Caller | None:
        credential = credentials.read_credential(conn, digest)
        if credential is None:
            return self._read_session(conn, digest, now)
        if not credential.live(now):
            return None
        bound = workloads.read_binding(conn, credential.id)
        standing = Caller(credential).standing
        if bound is not None:
            standing = msgspec.structs.replace(standing, how="bound", thumbprint=bound)
        elif standing.person:
            standing = msgspec.structs.replace(standing, roles=_roles(conn, credential))
        return Caller(*stand(conn, credential, standing, now))

    def _read_session(self, conn: Connection, digest: bytes, now: int) -> Caller | None:
        session = sessions.find_session(conn, digest)
        if session is None or not self.seen(session).live(now):
            return None
        credential = Credential(
            id=session.id, tenant=session.tenant, principal=session.principal, role=session.role, scope=None,
            created_at=session.created_at, created_by=session.principal, expires_at=session.expires_at,
        )  # fmt: skip
        standing = Standing(
            aal=session.aal, enrolling=session.enrolling, how=session.how, person=True, roles=_roles(conn, credential),
            stepped_up_at=session.stepped_up_at,
        )  # fmt: skip
        self._seen[session.id] = max(session.seen_at, self._seen.get(session.id, 0))
        self._saved[session.id] = session.seen_at
        self._idle[session.id] = session.idle_seconds * MICROSECONDS
        return Caller(credential, standing) if session.enrolling else Caller(*stand(conn, credential, standing, now))

    def _drop(self, digest: bytes | None) -> None:
        caller = None if digest is None else self._by_digest.pop(digest, None)
        if caller is not None and digest is not None:
            caller.live = False
            self._idle.pop(caller.id, None)
            self._digest_of.pop(caller.id, None)
            kin = self._of_principal.get((caller.tenant, caller.principal))
            if kin is not None:
                kin.discard(digest)
                if not kin:
                    del self._of_principal[caller.tenant, caller.principal]

    # ---- when sessions were last used -------------------------------------------------------------------------------------
    def _note_use(self, session: str) -> None:
        """Note a use, unless the session was idle for too long before it, here and at every other node."""
        now, idle = self._clock.now(), self._idle[session]
        if now - self._seen[session] >= idle:
            elsewhere = self._store.read(lambda conn: sessions.read_seen(conn, session))
            if now - elsewhere >= idle:
                raise nobody()
            self._saved[session] = elsewhere
        self._seen[session] = now
        self._unsaved.add(session)
        if now - self._saved[session] >= idle // 3:
            self.seen_is_due = True

    def seen(self, session: Session) -> Session:
        """Return a session as read from the store, with its last use as known here."""
        last = self._seen.get(session.id, 0)
        return session if last <= session.seen_at else msgspec.structs.replace(session, seen_at=last)

    def take_seen(self) -> dict[str, int]:
        """Return when sessions were last used since this was last asked, by id: for the store."""
        taken = {name: self._seen[name] for name in self._unsaved if name in self._seen}
        self._unsaved.clear()
        self.seen_is_due = False
        for name in [name for name in self._seen if name not in self._idle and name not in taken]:
            del self._seen[name]  # no longer held here, and the store knows it
            self._saved.pop(name, None)
        self._saved.update(taken)
        return taken

    def put_back(self, taken: dict[str, int]) -> None:
        """The store did not take them: have them written the next time."""
        self._unsaved.update(taken)


def _roles(conn: Connection, credential: Credential) -> tuple[str, ...]:
    held = people.read_memberships(conn, credential.tenant, credential.principal)
    custody = (SHARE_HOLDER,) if holds_share(conn, credential.tenant, credential.principal) else ()
    return (credential.role.value, *(membership.role for membership in held), *custody)


def nobody() -> Unauthenticated:
    """Return the one answer for absent, unknown, expired and revoked."""
    return Unauthenticated("no live credential was presented", "send a current token as `Authorization: Bearer …`")
