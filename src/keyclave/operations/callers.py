"""Who asks: bearer tokens to callers, from memory where possible. A change to a credential drops it from here at once."""

from __future__ import annotations

from keyclave.core.clock import Clock
from keyclave.core.errors import Unauthenticated
from keyclave.crypto.bearer import token_digest
from keyclave.identity.caller import Caller
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

    def authenticate(self, token: bytes) -> Caller:
        """Return the caller of `token`; the look-up is by digest, so its time tells nothing of the token."""
        if not token or len(token) > _LONGEST:
            raise nobody()
        digest = token_digest(token)
        caller = self._by_digest.get(digest)
        if caller is None:
            credential = self._store.read(lambda conn: records.read_credential(conn, digest))
            if credential is None or credential.revoked_at is not None:
                raise nobody()
            if len(self._by_digest) >= _CAPACITY:
                self._by_digest.clear()
                self._digest_of.clear()
            caller = self._by_digest[digest] = Caller(credential)
            self._digest_of[credential.id] = digest
        if self._clock.now() >= caller.expires_at:
            raise nobody()
        return caller

    def forget(self, credential: str) -> None:
        """Drop a credential: it has changed."""
        if credential.startswith(("crt_", "wkl_")):
            self.certified.forget(credential)
            return
        digest = self._digest_of.pop(credential, None)
        caller = None if digest is None else self._by_digest.pop(digest, None)
        if caller is not None:
            caller.live = False


def nobody() -> Unauthenticated:
    """Return the one answer for absent, unknown, expired and revoked."""
    return Unauthenticated("no live credential was presented", "send a current token as `Authorization: Bearer …`")
