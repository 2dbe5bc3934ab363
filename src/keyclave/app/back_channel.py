"""What the server itself asks of providers of single sign-on: bounded in time and size, over TLS, following no redirect.

No proxy or credential of the environment plays in: the one who is asked is the one who is configured.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from keyclave.core.errors import Unavailable

if TYPE_CHECKING:
    import httpx

_SECONDS = 10.0  # for a whole exchange, however slowly its bytes drip
_STEP_SECONDS = 5.0
_CONNECTIONS = 16


class BackChannel:
    """Asks one provider. `ca_file`: the authority of its certificate, where it is not one of the system's."""

    def __init__(self, name: str, ca_file: Path | None) -> None:
        self._name = name
        self._ca_file = ca_file
        self._http: httpx.AsyncClient | None = None

    async def get(self, url: str, most: int) -> bytes:
        """Return the body of a successful answer of at most `most` bytes."""
        status, body = await self._bounded("GET", url, None, {}, most)
        if status != 200:
            raise self._silent(f"answers {status}")
        return body

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str], most: int) -> tuple[int, bytes]:
        """Return status and body of whatever answer of at most `most` bytes."""
        return await self._bounded("POST", url, form, headers, most)

    async def _bounded(
        self, method: str, url: str, form: Mapping[str, str] | None, headers: Mapping[str, str], most: int
    ) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(_SECONDS):
                return await self._ask(method, url, form, headers, most)
        except TimeoutError:
            raise self._silent("does not answer in time") from None

    async def _ask(
        self, method: str, url: str, form: Mapping[str, str] | None, headers: Mapping[str, str], most: int
    ) -> tuple[int, bytes]:
        import httpx

        wanted = {"accept": "application/json", "accept-encoding": "identity", **headers}  # packed answers have no size before
        body = bytearray()
        why = ""
        try:
            async with self._client().stream(method, url, data=form, headers=wanted) as answer:
                async for piece in answer.aiter_raw():
                    body += piece
                    if len(body) > most:
                        raise self._silent("answers at too great a length")
                return answer.status_code, bytes(body)
        except httpx.HTTPError as fault:
            why = type(fault).__name__
        raise self._silent(f"does not answer ({why})")  # outside: the fault carries the request, and with it our proof

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            import httpx  # here, not above: a server without single sign-on starts without it

            context = ssl.create_default_context(cafile=None if self._ca_file is None else str(self._ca_file))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            bounds = httpx.Limits(max_connections=_CONNECTIONS)
            self._http = httpx.AsyncClient(
                verify=context, timeout=_STEP_SECONDS, trust_env=False, follow_redirects=False, limits=bounds
            )
        return self._http

    def _silent(self, what: str) -> Unavailable:
        return Unavailable(f"the provider {self._name} {what}", "try again, or log in with a passkey; tell an operator")
