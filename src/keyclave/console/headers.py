"""What every answer of the pages says to the browser: load nothing from elsewhere, be framed by nobody, keep nothing.

Content Security Policy level 3 without inline script or style, isolation from other origins (COOP, CORP), RFC 6797 where there is
TLS.
"""

from __future__ import annotations

from collections.abc import Mapping

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
_OFF = ("camera", "display-capture", "geolocation", "microphone", "midi", "payment", "serial", "usb")
_PERMISSIONS = ", ".join(
    ["publickey-credentials-create=(self)", "publickey-credentials-get=(self)", *(f"{name}=()" for name in _OFF)]
)
KEPT = "public, max-age=31536000, immutable"  # for what has its digest in its address
NOT_KEPT = "no-store"  # pages name people and keys: after logout, the back button finds nothing

_ALWAYS = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": _PERMISSIONS,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_TLS = {"strict-transport-security": "max-age=31536000"}


def headers_for(scheme: str, cache: str) -> Mapping[str, str]:
    """Return the headers of an answer over `scheme`; `cache` is what may be done with it."""
    return _ALWAYS | {"cache-control": cache} | (_TLS if scheme == "https" else {})
