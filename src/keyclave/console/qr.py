"""The QR code of a code generator's seed: an image inside the page, never at an address, for addresses are kept."""

from __future__ import annotations

from markupsafe import Markup


def qr_code(uri: str) -> Markup:
    """Return the QR code (ISO/IEC 18004, error correction M) of `uri` as an SVG element without style or script."""
    import segno  # here, for few servers ever draw one: see `keyclave.app.settling`

    drawn: str = segno.make(uri, error="m", micro=False).svg_inline(border=2, omitsize=True, dark="#000", light="#fff")
    return Markup(drawn)  # noqa: S704 - made of squares alone: nothing of the text is in it
