"""Templates, filled in: every value is escaped, a missing one is an error, and every page gets the same headers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from keyclave.console.files import Files
from keyclave.console.headers import NOT_KEPT, headers_for
from keyclave.core.clock import Clock, to_text

if TYPE_CHECKING:
    from jinja2 import Environment

SCRIPTS = ("ask.mjs", "passkeys.mjs", "speak.mjs", "clock.mjs", "console.mjs")  # each after those it imports
_MONTHS = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def moment(text: str) -> Markup:
    """Return an RFC 3339 time of ours as people read it; the exact one stays with it."""
    day, _, clock = text.partition("T")
    year, month, number = day.split("-")
    shown = f"{int(number)} {_MONTHS[int(month)]} {year}, {clock[:5]} UTC"
    return Markup('<span title="{}">{}</span>').format(text, shown)


def pretty(value: Any) -> str:
    """Return a request as indented JSON; what could turn the direction of text is shown by its number."""
    return "".join(
        c if c.isprintable() or c == "\n" else f"\\u{ord(c):04x}" for c in json.dumps(value, indent=2, ensure_ascii=False)
    )


class Pages:
    """Fills templates in."""

    def __init__(self, clock: Clock, rp_id: str) -> None:
        self.files = Files()
        self._clock = clock
        self._rp_id = rp_id

    @cached_property
    def _environment(self) -> Environment:
        """Made with the first page: a server starts without (see `keyclave.app.settling`)."""
        from jinja2 import Environment, PackageLoader, StrictUndefined

        made = Environment(
            loader=PackageLoader("keyclave.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        made.filters.update(moment=moment, pretty=pretty)
        made.globals.update(files=self.files, rp_id=self._rp_id, scripts=SCRIPTS)
        return made

    def page(
        self, request: Request, template: str, status: int = 200, me: Mapping[str, Any] | None = None, **said: Any
    ) -> Response:
        """Return a page, or a part of one. `me`: who is logged in, as `whoami` says it."""
        text = self._environment.get_template(template).render(
            me=me, now=to_text(self._clock.now()), path=request.url.path, **{"cli": "", **said}
        )
        return HTMLResponse(text, status, headers=headers_for(request.scope["scheme"], NOT_KEPT))
