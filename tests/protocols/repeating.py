"""A connection whose requests have the same head, byte for byte, as the fast lane treats it."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from keyclave.identity.peer import Peer
from keyclave.protocols.rest.gateway import read_head, reply_to
from tests.protocols.clocked import ENCRYPT, PLAIN, House
from tests.protocols.inside import BY_PATH

BODY = json.dumps({"plaintext": PLAIN}).encode()
RE_ENCRYPT = "/v1/keys/{key}/re-encrypt"


class Connection:
    """What the fast lane does with a connection whose requests have the same head."""

    def __init__(self, house: House, token: str, path: str = ENCRYPT, ref: str = "ward", **headers: str) -> None:
        self.house, self.token, self.path, self.ref = house, token, path, ref
        self.peer = Peer("127.0.0.1")
        sent = [(b"authorization", b"Bearer " + token.encode()), *((n.encode(), v.encode()) for n, v in headers.items())]
        self.head = read_head(sent, b"")
        self.head.comes_again = True
        self.answers: list[tuple[int, Any]] = []

    def send(self, body: bytes = BODY) -> None:
        """Send a request, whose answer waits for the next commit."""

        def respond(status: int, _kind: bytes, text: bytes, _more: object) -> None:
            self.answers.append((status, json.loads(text)))

        gateway, head, op = self.house.server.gateway, self.head, BY_PATH["POST", self.path]
        if head.repeat is not None:
            if gateway.submit_again(head.repeat, body, self.peer, partial(reply_to, op, respond)):
                return
            head.repeat = None
        gateway.submit(op, self.ref, head, body, self.peer, respond)

    def ask(self, body: bytes = BODY) -> tuple[int, Any]:
        """Send a request and return its answer."""
        self.send(body)
        self.house.server.store.flush()
        return self.answers.pop()
