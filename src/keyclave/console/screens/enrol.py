"""/ui/enrol: somebody with an invitation makes their first passkey. The token is pasted or in the fragment, never in a query."""

from __future__ import annotations

from starlette.responses import Response

from keyclave.console.door import Guest


async def show(guest: Guest) -> Response:
    """Show where the token goes, or, once it was accepted, the making of the passkey."""
    if guest.me and not guest.me["enrolling"]:
        guest.me = None  # whoever is logged in may still enrol somebody else here, under the other's own token
    return guest.page("enrol.html")
