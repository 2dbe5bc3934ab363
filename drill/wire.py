"""One connection of a client under load: plain requests over TLS, no retry: an answer is an answer and silence is silence."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any

from tests.live import Live

TIMEOUT = 30


class Silence(Exception):
    """No answer came: the server may have done it or not."""


class Wire:
    """Speaks JSON on one kept-alive connection with one token."""

    def __init__(self, live: Live, token: str) -> None:
        self._connection = http.client.HTTPSConnection(
            "127.0.0.1", live.port, timeout=TIMEOUT, context=ssl.create_default_context(cafile=live.ca_file)
        )
        self._token = live.tokens.get(token, token)

    def post(self, path: str, body: Any, idempotency_key: str = "") -> tuple[int, dict[str, Any]]:
        """Return status and answer; raise `Silence` when the connection ends first."""
        headers = {"authorization": "Bearer " + self._token, "content-type": "application/json"}
        if idempotency_key:
            headers["idempotency-key"] = idempotency_key
        try:
            self._connection.request("POST", path, json.dumps(body), headers)
            answer = self._connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as fault:
            raise Silence(str(fault)) from fault

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
