"""Whom a client certificate names: its authority, its name, the registered workload. From memory after the first time.

What is remembered is dropped when the certificate is revoked, the workload disabled or the authorities change, so that the very
next request looks again, on a connection that is open and on one whose TLS session is resumed alike.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from keyclave.core.clock import Clock
from keyclave.core.errors import Malformed, Unauthenticated
from keyclave.core.ids import RAW, to_id
from keyclave.crypto.x509 import Leaf, find_path, read_leaf
from keyclave.identity.caller import Caller, Credential, Standing
from keyclave.identity.certificates import Authority, Naming, name_of
from keyclave.identity.peer import Peer
from keyclave.identity.roles import Role
from keyclave.operations.standing import stand
from keyclave.operations.workloads.settings import WorkloadSettings
from keyclave.store.access import workloads as rows
from keyclave.store.interface import Store

_CAPACITY = 65_536


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate that stands: its id, whose it is, and until when."""

    id: str
    name: str
    authority: Authority
    leaf: Leaf
    until: int


class Recognition:
    """Knows the authorities, and the callers that came with their certificates."""

    def __init__(self, store: Store, clock: Clock, settings: WorkloadSettings) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._callers: dict[bytes, tuple[Caller, str]] = {}  # by thumbprint, with the id of the workload
        self._names: dict[bytes, Named] = {}
        self._thumbprint_of: dict[str, bytes] = {}
        self._certificates_of: dict[tuple[str, str], set[str]] = {}
        self._chains: dict[bytes, tuple[bytes, ...]] = {}  # a resumed session brings the leaf alone
        self.revoked: dict[str, frozenset[int] | None] = {}  # serials that outside authorities have revoked, by label
        self.lists: dict[str, tuple[int, bytes]] = {}  # our own revocation lists as handed out last, with when, by authority
        self.authorities: tuple[Authority, ...] = ()
        self._watchers: list[Callable[[list[bytes]], None]] = []
        self.reload()

    def reload(self) -> None:
        """Read the tenants' own authorities; everybody who was recognised is looked at again."""
        internal: dict[tuple[str, str], list[bytes]] = {}
        for row in self._store.read(rows.list_authorities):
            internal.setdefault((row.tenant, row.domain), []).append(row.certificate)
        own = [
            Authority(label="keyclave", tenant=tenant, naming=Naming.SPIFFE, anchors=tuple(anchors), domain=domain, internal=True)
            for (tenant, domain), anchors in internal.items()
        ]
        self.authorities = (*own, *self._settings.outside)
        self.forget_all()
        for watcher in self._watchers:
            watcher(self._anchors())

    def watch(self, watcher: Callable[[list[bytes]], None]) -> None:
        """Have `watcher` told every certificate (DER) that a client certificate may stand under, now and after each change."""
        self._watchers.append(watcher)
        watcher(self._anchors())

    def _anchors(self) -> list[bytes]:
        return list(dict.fromkeys(anchor for authority in self.authorities for anchor in authority.anchors))

    def caller(self, peer: Peer) -> Caller:
        """Return the caller whom the peer's certificate names, or raise `Unauthenticated`: one answer for every reason."""
        known = self._callers.get(peer.thumbprint)
        if known is None or self._clock.now() >= known[0].expires_at:  # perhaps only a grant has ended
            known = self._recognise(peer)
        if self._clock.now() >= known[0].expires_at:
            raise unknown_certificate()
        return known[0]

    def name(self, peer: Peer) -> Named:
        """Return what the certificate says, verified, whether or not a workload of that name is registered."""
        if peer.certificate is None:
            raise unknown_certificate()
        named = self._names.get(peer.thumbprint)
        if named is None:
            try:
                leaf = read_leaf(peer.certificate)
            except Malformed:
                raise unknown_certificate() from None
            named = self._named(leaf, peer.chain)
            if len(self._names) >= _CAPACITY:
                self._names.clear()
            self._names[peer.thumbprint] = named
            self._thumbprint_of[named.id] = peer.thumbprint
        if self._clock.now() >= named.until:
            raise unknown_certificate()
        return named

    def _named(self, leaf: Leaf, chain: tuple[bytes, ...]) -> Named:
        now = self._clock.now()
        others = chain or self._chains.get(leaf.thumbprint, ())
        identity = to_id("crt", leaf.thumbprint[:RAW])
        for authority in self.authorities:
            path = find_path(leaf.der, others, authority.anchors, now)
            if path is None:
                continue
            name = name_of(leaf, authority)
            if not self._stands(identity, leaf, authority, name):
                raise unknown_certificate()
            if len(path) > 1:
                if len(self._chains) >= _CAPACITY:
                    self._chains.clear()
                self._chains[leaf.thumbprint] = path
            until = min(leaf.not_after, *(read_leaf(above).not_after for above in path))
            return Named(id=identity, name=name, authority=authority, leaf=leaf, until=until)
        raise unknown_certificate()

    def _stands(self, identity: str, leaf: Leaf, authority: Authority, name: str) -> bool:
        """Tell whether it is neither revoked nor, of our own authority, one that we never issued."""
        tenant = authority.tenant
        if not authority.internal:
            revoked = self.revoked.get(authority.label, frozenset())
            if revoked is None or leaf.serial in revoked:
                return False
            return not self._store.read(lambda conn: rows.is_blocked(conn, tenant, identity))
        issued = self._store.read(lambda conn: rows.find_certificate(conn, tenant, identity))
        return issued is not None and issued.revoked_at is None and issued.name == name and issued.thumbprint == leaf.thumbprint

    def _recognise(self, peer: Peer) -> tuple[Caller, str]:
        try:
            named = self.name(peer)
        except Unauthenticated:
            raise unknown_certificate() from None
        tenant, name = named.authority.tenant, named.name
        workload = self._store.read(lambda conn: rows.match_workload(conn, tenant, name, patterns_over(name)))
        if workload is None or workload.disabled_at is not None:
            raise unknown_certificate()
        credential = Credential(
            id=named.id,
            tenant=tenant,
            principal=name,
            role=Role.APPLICATION,
            scope=workload.scope,
            created_at=named.leaf.not_before,
            created_by=named.authority.label,
            expires_at=named.until,
        )
        standing = Standing(how="mtls", roles=(Role.APPLICATION.value,), thumbprint=named.leaf.thumbprint)
        if len(self._callers) >= _CAPACITY:
            self.forget_all()
        stands = self._store.read(lambda conn: stand(conn, credential, standing, self._clock.now()))
        known = self._callers[peer.thumbprint] = (Caller(*stands), workload.id)
        self._thumbprint_of[named.id] = peer.thumbprint
        self._certificates_of.setdefault((tenant, name), set()).add(named.id)
        return known

    def replace_revoked(self, label: str, serials: frozenset[int] | None) -> None:
        """Take what an outside authority has revoked as it is now; None: it is not known any more, so none of its is believed."""
        if label not in self.revoked or self.revoked[label] != serials:
            self.revoked[label] = serials
            self.forget_all()

    def own(self, peer: Peer) -> bool:
        """Tell whether the peer's certificate is one that this server issued. For worker threads too: it remembers nothing."""
        return self._named(read_leaf(peer.certificate or b""), peer.chain).authority.internal

    def of_workload(self, workload: str) -> tuple[str, ...]:
        """Return the ids of certificates with which a workload is remembered."""
        return tuple(caller.id for caller, known in self._callers.values() if known == workload)

    def forget(self, name: str) -> None:
        """Drop a certificate by its id; a workload that changed drops everybody, for its name may cover whoever is remembered."""
        self.lists.clear()
        if name.startswith("ca_"):
            self.reload()
        if not name.startswith("crt_"):
            self.forget_all()
            return
        thumbprint = self._thumbprint_of.pop(name, b"")
        self._names.pop(thumbprint, None)
        known = self._callers.pop(thumbprint, None)
        if known is not None:
            known[0].live = False

    def forget_principal(self, tenant: str, principal: str) -> None:
        """Drop whoever came by that name."""
        for certificate in self._certificates_of.pop((tenant, principal), ()):
            self.forget(certificate)

    def forget_all(self) -> None:
        """Drop everybody."""
        for caller, _ in self._callers.values():
            caller.live = False
        self._callers.clear()
        self._names.clear()
        self._thumbprint_of.clear()
        self._certificates_of.clear()


def patterns_over(name: str) -> list[str]:
    """Return the patterns that cover a name: of a SPIFFE ID, each part of its path with `/*` behind it."""
    if not name.startswith("spiffe://"):
        return []
    parts = name[len("spiffe://") :].split("/")
    return ["spiffe://" + "/".join(parts[:count]) + "/*" for count in range(1, len(parts))]


def unknown_certificate() -> Unauthenticated:
    """Return the one answer for a certificate that is unknown, expired, revoked, or names nobody who is registered."""
    return Unauthenticated(
        "the client certificate opens nothing here",
        "an operator registers workloads with `keyclave workload register`; a certificate that ended or was revoked is replaced",
    )
