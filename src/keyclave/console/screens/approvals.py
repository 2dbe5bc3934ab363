"""/ui/approvals: what waits for a second person, exactly what is asked, and the buttons that decide it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.responses import Response

from keyclave.console.door import Guest, query_of

_ONE = "/v1/approvals/{approval}"


class ListQuery(msgspec.Struct, forbid_unknown_fields=True):
    """`all`: ended ones too; `after`: the cursor of a further page."""

    all: bool = False
    after: Annotated[str, Meta(max_length=64)] = ""


async def show_list(guest: Guest) -> Response:
    """Show the requests."""
    return await _list(guest, "approvals.html")


async def show_rows(guest: Guest) -> Response:
    """Show the requests alone, for a page that is shown again."""
    return await _list(guest, "parts/approval_list.html")


async def _list(guest: Guest, template: str) -> Response:
    said: ListQuery = query_of(guest.request, ListQuery)
    page = await guest.ask("GET", "/v1/approvals", {"open": not said.all, "cursor": said.after})
    return guest.page(template, approvals=page["approvals"], more=page["next"], all=said.all)


async def show(guest: Guest) -> Response:
    """Show one request."""
    return _one(guest, await guest.ask("GET", _ONE, ref=_ref(guest)), "approval.html")


async def show_again(guest: Guest) -> Response:
    """Show one request alone, for a page that is shown again."""
    return _one(guest, await guest.ask("GET", _ONE, ref=_ref(guest)))


async def deny(guest: Guest) -> Response:
    """Deny it."""
    fields = await guest.form()
    return _one(guest, await guest.ask("POST", f"{_ONE}/deny", {"reason": fields.get("reason", "")}, _ref(guest)))


async def withdraw(guest: Guest) -> Response:
    """Take it back."""
    return _one(guest, await guest.ask("POST", f"{_ONE}/withdraw", {}, _ref(guest)))


async def execute(guest: Guest) -> Response:
    """Have done what was approved."""
    done = await guest.ask("POST", f"{_ONE}/execute", {}, _ref(guest))
    one = await guest.ask("GET", _ONE, ref=_ref(guest))
    return _one(guest, one, outcome=f"Done. Event {done.get('event', '')}.")


def _ref(guest: Guest) -> str:
    return str(guest.request.path_params["approval"])


def _one(guest: Guest, one: dict[str, Any], template: str = "parts/approval.html", outcome: str = "") -> Response:
    principal = guest.me["principal"] if guest.me else ""
    signed = any(by["approver"] == principal for by in one["signatures"])
    return guest.page(template, one=one, mine=one["requester"] == principal, signed=signed, outcome=outcome)
