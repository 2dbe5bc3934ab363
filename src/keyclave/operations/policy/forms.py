"""The forms that requests of this room share."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from keyclave.core import limits
from keyclave.operations.forms import Answer, Request
from keyclave.policy.bundle import Bundle, checked_bundle

FileName = Annotated[str, Meta(max_length=80)]
Files = Annotated[
    dict[FileName, Annotated[str, Meta(max_length=2 << 20)]],
    Meta(min_length=1, max_length=65, description="the files of a bundle, by name"),
]
Revision = Annotated[int, Meta(ge=1, le=2**31 - 1)]
OperationName = Annotated[str, Meta(min_length=1, max_length=40)]
Ref = Annotated[str, Meta(max_length=limits.NAME)]
Principal = Annotated[str, Meta(min_length=1, max_length=2048, pattern=limits.PRINTABLE)]


class BundleRequest(Request, kw_only=True):
    """A bundle that somebody proposes."""

    files: Files


class RuleView(msgspec.Struct, kw_only=True):
    """A setting of rules.toml that differs; null where it is not there."""

    place: str
    before: Any
    after: Any


class RevisionView(Answer, kw_only=True, omit_defaults=False):
    """A revision of the policy. `digest`: hex SHA-256 of its canonical form. `approval` is empty for the first."""

    revision: int
    digest: str
    applied_at: str
    applied_by: str
    approval: str


def bundle_of(files: dict[str, str]) -> Bundle:
    """Return the bundle of a request, or refuse it."""
    return checked_bundle(files)
