"""What the server says about approvals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Signed:
    """Who signed, when, and whether the signature counts now."""

    approver: str
    authenticator: str
    signed_at: str
    counts: bool
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Approval:
    """A request for approval. `canonical` is the text whose SHA-256 approvers sign; `status`: pending, approved, executed,
    denied, withdrawn, expired."""

    id: str
    status: str
    operation: str
    requester: str
    reason: str
    items: tuple[Mapping[str, Any], ...]
    needed: int
    roles: tuple[tuple[str, ...], ...]
    signatures: tuple[Mapping[str, Any], ...]
    requested_at: str
    expires_at: str
    canonical: str
    request_sha256: str
    ended_at: str | None = None
    ended_by: str | None = None
    ended_why: str | None = None
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Signing:
    """What is to be signed: the statement's bytes by a key. `canonical` is the request whose hash it names."""

    statement: str
    authenticator: str
    kind: str
    canonical: str
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Execution:
    """One result for each item: {"ref", "answer", "error"}. Answers may hold new credentials: they are not shown by accident."""

    approval: str
    operation: str
    results: tuple[Mapping[str, Any], ...]
    event: str | None = None

    def __repr__(self) -> str:
        return f"Execution({self.approval!r}, {self.operation!r}, {len(self.results)} results)"
