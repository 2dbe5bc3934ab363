"""The pages as an ASGI application, mounted at /ui: which address shows which screen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from keyclave.console.door import Door, Guest, Recognise, Screen
from keyclave.console.headers import KEPT, NOT_KEPT, headers_for
from keyclave.console.pages import Pages
from keyclave.console.screens import account, approvals, device, enrol, login
from keyclave.core.errors import Unknown
from keyclave.operations.desk import Desk

PLACE = "/ui"


def application(desk: Desk, recognise: Recognise) -> Starlette:
    """Return the application. `recognise` finds whose session a request's cookie is."""
    pages = Pages(desk.clock, desk.people.relying.id)
    door = Door(desk, pages, recognise)

    async def file(request: Request) -> Response:
        found = pages.files.find(request.path_params["digest"], request.path_params["name"])
        if found is None:
            return Response(status_code=404, headers=headers_for(request.scope["scheme"], NOT_KEPT))
        return Response(found.content, headers={**headers_for(request.scope["scheme"], KEPT), "content-type": found.kind})

    async def first(guest: Guest) -> Response:
        return RedirectResponse("/ui/account", 303, headers=headers_for(guest.request.scope["scheme"], NOT_KEPT))

    async def nothing(_guest: Guest) -> Response:
        raise Unknown("there is no such page", "begin at /ui/")

    routes = [
        Route("/static/{digest}/{name}", file),
        Route("/", door.to(first)),
        Route("/login", door.to(login.show, login=False, enrolling=True)),
        Route("/enrol", door.to(enrol.show, login=False, enrolling=True)),
        *_screens(door),
        Route("/{path:path}", door.to(nothing, login=False, enrolling=True), methods=["GET", "POST"]),
    ]
    made = Starlette(routes=routes)
    made.router.redirect_slashes = False
    return made


def _screens(door: Door) -> list[Route]:
    """Return the routes of the pages behind the login."""
    shown: list[tuple[str, Screen]] = [
        ("/device", device.show),
        ("/approvals", approvals.show_list),
        ("/approvals/list", approvals.show_rows),
        ("/approvals/{approval}", approvals.show),
        ("/approvals/{approval}/shown", approvals.show_again),
        ("/account", account.show),
    ]
    done: list[tuple[str, Screen]] = [
        ("/device/look", device.look),
        ("/device/grant", device.grant),
        ("/approvals/{approval}/deny", approvals.deny),
        ("/approvals/{approval}/withdraw", approvals.withdraw),
        ("/approvals/{approval}/execute", approvals.execute),
        ("/account/authenticators/{authenticator}/revoke", account.revoke_authenticator),
        ("/account/totp", account.begin_totp),
        ("/account/totp/finish", account.finish_totp),
        ("/account/password", account.set_password),
        ("/account/recovery", account.make_recovery),
        ("/account/sessions/{session}/revoke", account.revoke_session),
        ("/account/elevations", account.elevate),
        ("/account/elevations/{elevation}/end", account.end_elevation),
    ]
    handler: Callable[[Screen], Callable[[Request], Awaitable[Response]]] = door.to
    return [
        *(Route(path, handler(screen), methods=["GET"]) for path, screen in shown),
        *(Route(path, handler(screen), methods=["POST"]) for path, screen in done),
    ]
