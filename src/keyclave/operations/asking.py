"""What a decision looks at: who asks, from where, for what, of which key. Policy sees this, and nothing else."""

from __future__ import annotations

import ipaddress
from typing import Protocol

from keyclave.core.clock import MICROSECONDS
from keyclave.identity.caller import Caller
from keyclave.identity.peer import Peer
from keyclave.keys.model import Cryptoperiod, Key
from keyclave.policy.engine import Compiled, Question

FRESH = 5 * 60 * MICROSECONDS  # what `context.fresh` means in a policy
_NO_NETWORKS: frozenset[str] = frozenset()


class Asking(Protocol):
    """What a decision looks at of an attempt: a supposed one has no more."""

    action: str
    at: int
    purpose: str

    @property
    def caller(self) -> Caller: ...

    @property
    def peer(self) -> Peer: ...


def is_fresh(asking: Asking) -> bool:
    """Tell whether a person has proved to be there a moment ago."""
    standing = asking.caller.standing
    return standing.person and asking.at - standing.stepped_up_at <= FRESH


def networks_of(peer: Peer, revision: Compiled) -> frozenset[str]:
    """Return the names of the networks that a peer's address lies in; remembered with the connection."""
    if not revision.networks:
        return _NO_NETWORKS
    known = peer.networks.get(revision)
    if known is None:
        peer.networks.clear()  # a connection outlives many revisions
        try:
            address = ipaddress.ip_address(peer.address)
        except ValueError:
            return _NO_NETWORKS
        address = getattr(address, "ipv4_mapped", None) or address  # one machine, one answer: a forbid holds in both spellings
        known = peer.networks[revision] = frozenset(
            name for name, blocks in revision.networks for block in blocks if address in block
        )
    return known


def question_of(
    attempt: Asking, action: str, key: Key | None, revision: Compiled, networks: frozenset[str], *, fresh: bool
) -> Question:
    caller = attempt.caller
    standing = caller.standing
    described = {}
    if key is not None:
        names = ("name", "spec", "purpose", "owner", "environment", "classification", "location")
        described = {name: str(getattr(key, name)) for name in names}
    return Question(
        tenant=caller.tenant,
        principal=caller.principal,
        person=standing.person,
        duty=caller.role.value,
        roles=revision.ancestors(standing.roles),
        action=action,
        aal=standing.aal,
        elevated=bool(standing.elevation),
        fresh=fresh,
        granted=False,
        how=standing.how,
        networks=networks,
        plane=attempt.peer.plane.value,
        purpose=attempt.purpose,
        key_id="" if key is None else key.id,
        key=described,
        tags={} if key is None else key.tags,
    )


def nothing(ref: str) -> Key:
    """Return a key that is none, to be judged in place of one that was not found."""
    return Key(
        id=f"nothing:{ref}", tenant="", name=ref, spec="", purpose="", owner="", environment="", classification="", location="",
        tags={}, cryptoperiod=Cryptoperiod(protect_days=1, process_days=1), rotation=None, created_at=0, created_by="",
        primary=None, rev=0,
    )  # fmt: skip
