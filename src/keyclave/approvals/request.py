"""A request for approval in its one canonical form (RFC 8785): exactly what is done once enough people have signed its hash.

It names the operation and every item of it with all parameters, defaults written out; keys by id, so that a name given to another
key later approves nothing. It holds the rule it was asked under and its own id: two requests for the same act are two hashes, and
a signature for one is none for the other. spec/approvals.md is the law.
"""

from __future__ import annotations

from typing import Any

import msgspec

from keyclave.core.canonical_json import canonical_json
from keyclave.core.errors import Broken
from keyclave.crypto.digest import sha256

FORMAT = "keyclave/approval-request/1"


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`count` distinct approvers who each hold one of `roles`, or a role nested in one, within `hours` of the request; each signs
    with what proves the level `assurance`."""

    assurance: int
    count: int
    hours: int
    roles: tuple[str, ...]


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One act. `ref` is the id of the key (or of what else the path names; empty where it names nothing), `label` the name that
    it had when it was asked for, for people. `request` is the body. `if_match`: the key's revision that it holds for alone."""

    if_match: int | None = None
    label: str = ""
    ref: str = ""
    request: dict[str, Any] | None = None

    def act(self) -> dict[str, Any]:
        """Return what is done, without what is only said of it."""
        return {"ref": self.ref, "request": self.request}


class ApprovalRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole request. Times in microseconds."""

    expires_at: int
    format: str
    id: str
    items: tuple[Item, ...]
    nonce: str  # nobody guesses what was asked from its hash, which the log shows
    operation: str
    reason: str
    requested_at: int
    requester: str
    rule: Rule
    tenant: str

    def canonical(self) -> bytes:
        """Return its canonical form. Malformed for numbers that are not exact in every JSON reader."""
        return canonical_json(msgspec.to_builtins(self))

    def digest(self) -> bytes:
        """Return the SHA-256 of its canonical form: what approvers sign."""
        return sha256(self.canonical())


def same_act(one: Item, other: Item) -> bool:
    """Tell whether two items are the same act on the same thing with the same parameters, to the letter."""
    return canonical_json(one.act()) == canonical_json(other.act())


def read_request(canonical: bytes) -> ApprovalRequest:
    """Read a kept request back. Broken unless it is in canonical form: what is executed is what was hashed, and nothing else."""
    try:
        request = msgspec.json.decode(canonical, type=ApprovalRequest)
    except msgspec.MsgspecError:
        raise Broken("a kept request for approval cannot be read", "keep the database as evidence, and ask again") from None
    if request.format != FORMAT or request.canonical() != canonical:
        raise Broken("a kept request for approval is not in canonical form", "keep the database as evidence, and ask again")
    return request
