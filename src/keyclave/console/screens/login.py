"""/ui/login: a passkey first, other ways second; and whether a command line of this computer is let in."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.responses import RedirectResponse, Response

from keyclave.console.door import OURS, Guest, query_of
from keyclave.console.headers import NOT_KEPT, headers_for
from keyclave.operations.people.sso import list_providers

_FIRST = "/ui/account"
_HAND_OVER = re.compile(r"([1-9][0-9]{3,4})\.[A-Za-z0-9_-]{43}\.[A-Za-z0-9_-]{43}", re.ASCII)


class LoginQuery(msgspec.Struct, forbid_unknown_fields=True):
    """`next`: the page to go on to; `cli`: port, state and challenge of a command line that waits; the rest: where from."""

    next: Annotated[str, Meta(max_length=64)] = ""
    cli: Annotated[str, Meta(max_length=128, pattern=rf"^({_HAND_OVER.pattern})?$(?!\n)")] = ""
    enrolled: bool = False
    left: bool = False


async def show(guest: Guest) -> Response:
    """Show the login, or, to whoever is logged in, what waits for it."""
    said: LoginQuery = query_of(guest.request, LoginQuery)
    onward = said.next if OURS.fullmatch(said.next) else _FIRST  # never where a link says: only our own pages
    if guest.me and not guest.me["enrolling"]:
        if said.cli:
            return guest.page("handover.html", cli=said.cli, port=said.cli.partition(".")[0])
        return RedirectResponse(onward, 303, headers=headers_for(guest.request.scope["scheme"], NOT_KEPT))
    guest.me = None
    target = f"/ui/login?cli={said.cli}" if said.cli else onward
    return guest.page(
        "login.html", next=target, cli=said.cli, enrolled=said.enrolled, left=said.left, providers=_providers(guest)
    )


def _providers(guest: Guest) -> list[dict[str, str]]:
    return [{"name": one.name, "label": one.label} for one in list_providers(guest.desk).providers]
