"""key-read, key-list, public-key: what is known of keys. Material is not among it."""

from __future__ import annotations

import base64
from typing import Annotated

import msgspec
from msgspec import Meta

from keyclave.core import limits
from keyclave.core.errors import Malformed, Unknown, WrongState
from keyclave.crypto.public import to_pem
from keyclave.keys.states import State
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Answer, Number
from keyclave.operations.key_view import KeyView, view
from keyclave.operations.keyring import LoadedKey
from keyclave.store import key_rows


class ListQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A page: after `cursor`, at most `limit` keys; `name` is a prefix, `state` one that some version is in."""

    cursor: str = ""
    limit: Annotated[int, Meta(ge=1, le=limits.PAGE)] = 100
    name: str = ""
    state: State | None = None


class KeyPage(Answer, kw_only=True):
    """`next` is the cursor of the following page, or null at the end."""

    keys: list[KeyView]
    next: str | None


class PublicKeyQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`version` omitted: the primary one."""

    version: Number | None = None


class PublicKey(Answer, kw_only=True):
    """PEM."""

    public_key: str
    spec: str
    key: str
    version: int


def read_key(_desk: Desk, _attempt: Attempt, key: LoadedKey, _query: None) -> KeyView:
    """Describe one key."""
    return view(key.key)


def list_keys(desk: Desk, attempt: Attempt, _key: LoadedKey | None, query: ListQuery) -> KeyPage:
    """Describe keys in the order of their names."""
    after = _from_cursor(query.cursor)
    found = desk.store.read(
        lambda conn: key_rows.list_keys(conn, attempt.caller.tenant, after, query.limit + 1, query.name or None, query.state)
    )
    page = found[: query.limit]
    more = len(found) > query.limit
    attempt.count = max(1, len(page))
    return KeyPage(keys=[view(k) for k in page], next=_to_cursor(page[-1].name) if more else None)


def read_public_key(_desk: Desk, attempt: Attempt, key: LoadedKey, query: PublicKeyQuery) -> PublicKey:
    """Return a version's public half."""
    number = query.version or key.key.primary
    version = None if number is None else key.key.version(number)
    if version is None:
        raise Unknown("no such key version", "see `keyclave key show` for its versions")
    if version.public is None:
        raise WrongState("a symmetric key has no public half", "use a key of an asymmetric spec")
    attempt.version = version.number
    return PublicKey(public_key=to_pem(version.public), spec=key.key.spec, key=key.key.id, version=version.number)


def _to_cursor(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def _from_cursor(cursor: str) -> str:
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise Malformed("the cursor is not one of ours", "start again without it") from None
