"""/ui/device: the code of a machine without a browser; what waits under it is shown before anybody says yes (RFC 8628)."""

from __future__ import annotations

from starlette.responses import Response

from keyclave.console.door import Guest
from keyclave.core.errors import Malformed


async def show(guest: Guest) -> Response:
    """Show where the code goes."""
    return guest.page("device.html")


async def look(guest: Guest) -> Response:
    """Show what waits."""
    fields = await guest.form()
    one = await guest.ask("POST", "/v1/login/device/look", {"user_code": fields.get("user_code", "").strip()})
    return guest.page("parts/device_view.html", one=one)


async def grant(guest: Guest) -> Response:
    """Let the machine in, or turn it away."""
    fields = await guest.form()
    if fields.get("allow") not in ("true", "false"):
        raise Malformed("neither yes nor no was said", "load the page again")
    allowed = fields["allow"] == "true"
    await guest.ask("POST", "/v1/login/device/grant", {"user_code": fields.get("user_code", ""), "allow": allowed})
    return guest.page("parts/device_done.html", allowed=allowed)
