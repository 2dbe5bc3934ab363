"""Whose session the cookie of a page's request is: the same door as for REST, opened for the pages by `app`."""

from __future__ import annotations

from keyclave.identity.caller import Caller
from keyclave.identity.peer import Peer
from keyclave.protocols.rest.cookies import token_in
from keyclave.protocols.rest.gateway import Gateway, read_head

_NAVIGATION = {b"sec-fetch-mode": b"navigate", b"sec-fetch-dest": b"document"}


class Visitors:
    """Finds them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def __call__(self, headers: list[tuple[bytes, bytes]], peer: Peer, *, reading: bool) -> Caller | None:
        """Return the caller, or None where no session's cookie came. Raises `Unauthenticated` for one that ended, `Refused` for
        a request of another site. A link to a page is followed from anywhere, for the page shows itself to its reader alone."""
        head = read_head(headers, b"")
        token = token_in(head.cookie or b"")
        if not token:
            return None
        if reading and _NAVIGATION.items() <= dict(headers).items():
            head.site = b"none"
        return self._gateway.visitor(token, head, peer, reading=reading)
