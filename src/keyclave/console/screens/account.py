"""/ui/account: what one proves oneself with, where one is logged in, and the clock of a role taken on for a while."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from keyclave.console.door import Guest
from keyclave.console.qr import qr_code

_ENROL = "/v1/authenticators"


async def show(guest: Guest) -> Response:
    """Show the account."""
    return guest.page("account.html", **await _authenticators(guest), **await _sessions(guest), **await _elevation(guest))


async def revoke_authenticator(guest: Guest) -> Response:
    """Revoke one of one's own."""
    await guest.ask("POST", f"{_ENROL}/{{authenticator}}/revoke", {}, str(guest.request.path_params["authenticator"]))
    return guest.page("parts/authenticators.html", **await _authenticators(guest))


async def begin_totp(guest: Guest) -> Response:
    """Show the seed of a new code generator, once."""
    begun = await guest.ask("POST", f"{_ENROL}/totp/begin")
    return guest.page("parts/totp.html", begun=begun, qr=qr_code(begun["uri"]))


async def finish_totp(guest: Guest) -> Response:
    """Enrol the generator that shows the right code."""
    fields = await guest.form()
    said = {"ceremony": fields.get("ceremony", ""), "code": fields.get("code", "").strip()}
    await guest.ask("POST", f"{_ENROL}/totp/finish", said)
    return guest.page("parts/authenticators.html", **await _authenticators(guest))


async def set_password(guest: Guest) -> Response:
    """Set a password."""
    fields = await guest.form()
    await guest.ask("POST", f"{_ENROL}/password", {"password": fields.get("password", "")})
    return guest.page("parts/authenticators.html", **await _authenticators(guest))


async def make_recovery(guest: Guest) -> Response:
    """Make recovery codes and show them, once."""
    made = await guest.ask("POST", f"{_ENROL}/recovery")
    return guest.page("parts/recovery.html", codes=made["codes"])


async def revoke_session(guest: Guest) -> Response:
    """End another session of one's own."""
    await guest.ask("POST", "/v1/sessions/{session}/revoke", {}, str(guest.request.path_params["session"]))
    return guest.page("parts/sessions.html", **await _sessions(guest))


async def elevate(guest: Guest) -> Response:
    """Take on a role."""
    fields = await guest.form()
    said = {name: fields.get(name, "").strip() for name in ("role", "reason", "minutes")}
    await guest.ask("POST", "/v1/elevations", said)
    return guest.page("parts/elevation.html", **await _elevation(guest))


async def end_elevation(guest: Guest) -> Response:
    """Give a role back early."""
    await guest.ask("POST", "/v1/elevations/{elevation}/end", {}, str(guest.request.path_params["elevation"]))
    return guest.page("parts/elevation.html", **await _elevation(guest))


async def _authenticators(guest: Guest) -> dict[str, Any]:
    page = await guest.ask("GET", _ENROL)
    live = [one for one in page["authenticators"] if one["revoked_at"] is None]
    return {"authenticators": live, "recovery_codes": page["recovery_codes"]}


async def _sessions(guest: Guest) -> dict[str, Any]:
    page = await guest.ask("GET", "/v1/sessions")
    return {"sessions": sorted(page["sessions"], key=lambda one: (not one["current"], one["created_at"]))}


async def _elevation(guest: Guest) -> dict[str, Any]:
    page = await guest.ask("GET", "/v1/elevations")
    own = guest.me["principal"] if guest.me else ""
    return {"running": [one for one in page["elevations"] if one["status"] == "running" and one["principal"] == own]}
