"""What workloads present instead of a credential of ours: enrolment tokens, tokens of outside issuers, what is bound to a
certificate. All of it ends in a `Caller`.
"""

from __future__ import annotations

from keyclave.core.clock import MICROSECONDS, Clock
from keyclave.core.errors import Unauthenticated
from keyclave.core.ids import RAW, to_id
from keyclave.crypto.bearer import ENROLMENT, token_digest
from keyclave.crypto.digest import same, sha256
from keyclave.identity.caller import Caller, Credential, Standing
from keyclave.identity.peer import Peer
from keyclave.identity.roles import Role
from keyclave.identity.scope import Scope
from keyclave.identity.workload_tokens import Keys, Token, read_token
from keyclave.operations.standing import stand
from keyclave.operations.workloads.recognition import Recognition, patterns_over
from keyclave.operations.workloads.settings import WorkloadSettings
from keyclave.store.access import workloads as rows
from keyclave.store.interface import Store

ENROLLING = ("certificate-issue", "whoami")
_ENROLMENT = ENROLMENT.encode()
_CAPACITY = 4096
_JWT = b"eyJ"  # `{"` in base64url: how the header of every JSON Web Token begins


class Presented:
    """Finds callers by tokens that are not our own credentials; remembers verified ones until their end."""

    def __init__(self, store: Store, clock: Clock, settings: WorkloadSettings, certified: Recognition) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._certified = certified
        self._tokens: dict[bytes, Token] = {}
        self.keys: dict[str, Keys] = {}  # of each issuer, by its label
        self.wanted: set[str] = set()  # issuers whose keys did not verify a token: perhaps they have new ones

    def caller(self, token: bytes, peer: Peer) -> Caller | None:
        """Return the caller of an enrolment token or an outside issuer's; None for any other. `Unauthenticated` where none is."""
        if token.startswith(_ENROLMENT):
            return self._enrolling(token)
        if token.startswith(_JWT) and self._settings.issuers:
            return self._outside(token, peer)
        return None

    def check_bound(self, caller: Caller, peer: Peer) -> None:
        """Hold a bound credential to its certificate, which must itself still open something (RFC 8705 section 3)."""
        if not self._comes_with(caller.standing.thumbprint, peer) or self._certified.caller(peer).principal != caller.principal:
            raise _nobody()

    def replace_keys(self, label: str, keys: Keys) -> None:
        """Take an issuer's keys as they are now; what was verified by those before is verified again."""
        self.wanted.discard(label)
        if self.keys.get(label) != keys:
            self.keys[label] = keys
            self._tokens.clear()

    def _comes_with(self, thumbprint: bytes, peer: Peer) -> bool:
        return peer.certificate is not None and same(thumbprint, peer.thumbprint)

    def _enrolling(self, token: bytes) -> Caller:
        digest = token_digest(token)
        found = self._store.read(lambda conn: rows.read_enrolment(conn, digest))
        now = self._clock.now()
        if found is None or found.revoked_at is not None or now >= found.expires_at:
            raise _nobody()
        # a token that is used up is still known: who repeats a request under its idempotency key gets the answer of then
        credential = _credential(found.id, found.tenant, found.name, None, found.created_at, found.created_by, found.expires_at)
        return Caller(credential, Standing(how="enrolment", only=ENROLLING, roles=(Role.APPLICATION.value,)))

    def _outside(self, token: bytes, peer: Peer) -> Caller:
        """A token that is bound to the certificate it comes with opens what the workload may do; any other only enrols."""
        digest = sha256(token)
        now = self._clock.now()
        read = self._tokens.get(digest)
        if read is None:
            read = self._verified(token, digest, now)
        if now >= read.expires_at * MICROSECONDS:
            raise _nobody()
        issuer = read.issuer
        identity, until = to_id("jwt", digest[:RAW]), read.expires_at * MICROSECONDS
        if not read.thumbprint:
            credential = _credential(identity, issuer.tenant, read.name, None, now, issuer.label, until)
            return Caller(credential, Standing(how=issuer.kind, only=ENROLLING, roles=(Role.APPLICATION.value,)))
        if not self._comes_with(read.thumbprint, peer):
            raise _nobody()
        workload = self._store.read(lambda conn: rows.match_workload(conn, issuer.tenant, read.name, patterns_over(read.name)))
        if workload is None or workload.disabled_at is not None:
            raise _nobody()
        named = self._certified.name(peer)  # its own name may be another one: what counts is that it stands
        if named.authority.tenant != issuer.tenant:
            raise _nobody()
        credential = _credential(identity, issuer.tenant, read.name, workload.scope, now, issuer.label, min(until, named.until))
        standing = Standing(how=f"{issuer.kind}+mtls", roles=(Role.APPLICATION.value,), thumbprint=read.thumbprint)
        return Caller(*self._store.read(lambda conn: stand(conn, credential, standing, now)))

    def _verified(self, token: bytes, digest: bytes, now: int) -> Token:
        try:
            read = read_token(token, self._settings.issuers, self.keys, now // MICROSECONDS)
        except Unauthenticated:
            self.wanted.update(issuer.label for issuer in self._settings.issuers)
            raise _nobody() from None
        if len(self._tokens) >= _CAPACITY:
            self._tokens.clear()
        self._tokens[digest] = read
        return read


def _credential(
    identity: str, tenant: str, principal: str, scope: Scope | None, created_at: int, created_by: str, expires_at: int
) -> Credential:
    return Credential(
        id=identity,
        tenant=tenant,
        principal=principal,
        role=Role.APPLICATION,
        scope=scope,
        created_at=created_at,
        created_by=created_by,
        expires_at=expires_at,
    )


def _nobody() -> Unauthenticated:
    return Unauthenticated("no live credential was presented", "send a current token as `Authorization: Bearer …`")
