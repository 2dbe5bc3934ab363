"""Who asks: bearer tokens to callers, from memory where possible. What changes a caller drops them from here at once."""

from __future__ import annotations

from sqlalchemy import Connection

from keyclave.core.clock import Clock
from keyclave.core.errors import Unauthenticated
from keyclave.crypto.bearer import token_digest
from keyclave.identity.caller import Caller
from keyclave.identity.peer import Peer
from keyclave.operations.standing import stand
from keyclave.operations.workloads.recognition import Recognition
from keyclave.store import records
from keyclave.store.interface import Store

_CAPACITY = 16_384
_LONGEST = 128  # characters of a token


class Callers:
    """Finds the caller of a token. One answer for absent, unknown, expired and revoked."""

    def __init__(self, store: Store, clock: Clock, certified: Recognition) -> None:
        self._store = store
        self._clock = clock
        self.certified = certified
        self._by_digest: dict[bytes, Caller] = {}
        self._digest_of: dict[str, bytes] = {}
        self._of_principal: dict[tuple[str, str], set[bytes]] = {}

    def authenticate(self, token: bytes) -> Caller:
        """Return the caller of `token`; the look-up is by digest, so its time tells nothing of the token."""
        if not token or len(token) > _LONGEST:
            raise nobody()
        digest = token_digest(token)
        caller = self._by_digest.get(digest)
        if caller is None or self._clock.now() >= caller.expires_at:  # something of it has ended, perhaps not all
            caller = self._load(digest)
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
        return self._load(caller.digest) if known is None or self._clock.now() >= known.expires_at else known

    def forget(self, tenant: str, name: str) -> None:
        """Drop what has changed: a credential, or every caller who is a principal of the tenant."""
        if name.startswith(("crt_", "wkl_")):
            self.certified.forget(name)
            return
        self.certified.forget_principal(tenant, name)
        self._drop(self._digest_of.get(name))
        for digest in self._of_principal.pop((tenant, name), ()):
            self._drop(digest)

    def _load(self, digest: bytes) -> Caller:
        self._drop(digest)
        now = self._clock.now()
        caller = self._store.read(lambda conn: self._read(conn, digest, now))
        if caller is None or now >= caller.expires_at:
            raise nobody()
        if len(self._by_digest) >= _CAPACITY:
            self._by_digest.clear()
            self._digest_of.clear()
            self._of_principal.clear()
        caller.digest = digest
        self._by_digest[digest] = caller
        self._digest_of[caller.id] = digest
        self._of_principal.setdefault((caller.tenant, caller.principal), set()).add(digest)
        return caller

    def _read(self, conn: Connection, digest: bytes, now: int) -> Caller | None:
        credential = records.read_credential(conn, digest)
        if credential is None or not credential.live(now):
            return None
        return Caller(*stand(conn, credential, None, now))

    def _drop(self, digest: bytes | None) -> None:
        caller = None if digest is None else self._by_digest.pop(digest, None)
        if caller is not None and digest is not None:
            caller.live = False
            self._digest_of.pop(caller.id, None)
            kin = self._of_principal.get((caller.tenant, caller.principal))
            if kin is not None:
                kin.discard(digest)
                if not kin:
                    del self._of_principal[caller.tenant, caller.principal]


def nobody() -> Unauthenticated:
    """Return the one answer for absent, unknown, expired and revoked."""
    return Unauthenticated("no live credential was presented", "send a current token as `Authorization: Bearer …`")
