"""Which requests may bring a page's cookie: those of our own pages alone.

A browser sends a cookie along by itself, so a request that comes with one proves nothing of who made it. What does is said by the
browser and out of reach of any page's script: Sec-Fetch-Site (Fetch Metadata) and Origin (RFC 6454). SameSite on the cookie is a
second wall only: every port of a host is the same site.
"""

from __future__ import annotations

from collections.abc import Collection

from keyclave.core.errors import Refused


def check_site(site: bytes | None, origin: bytes | None, origins: Collection[str], *, reading: bool) -> None:
    """Refuse a request with a cookie that another site made, or may have made. `site` and `origin` are the headers as they came.

    What only reads may also be asked for from the address bar (`none`), or by a program that says nothing of sites.
    """
    ours = origin is not None and origin.decode("latin-1") in origins
    if origin is not None and not ours:
        raise strange()
    if site is None:
        if not ours and not reading:
            raise strange()
        return
    if site != b"same-origin" and not (reading and site == b"none"):
        raise strange()


def strange() -> Refused:
    """Return the one answer for a request that did not come from our pages."""
    return Refused("this request did not come from the server's own pages", "open the page again, or send a bearer token")
