"""Clients that use the server until it dies, and remember exactly what it acknowledged and what it left open.

Each kind of client is a thread of its own: encrypting, batches, data keys, creating and rotating keys and issuing and revoking
credentials with idempotency keys, and an auditor who keeps every checkpoint that was shown.
"""

from __future__ import annotations

import base64
import http.client
import os
import ssl
import threading
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from drill.wire import Silence, Wire
from tests.live import Live

KEY = "drill"  # the key that protects


@dataclass
class Protected:
    """A ciphertext or wrapped key that was answered, and what must come out of it again."""

    verb: str  # the operation that opens it
    given: dict[str, Any]
    field: str  # of the answer
    expected: str


@dataclass
class Open:
    """A change without an answer: sent again after the restart with the same idempotency key, it must have happened once."""

    path: str
    body: dict[str, Any]
    token: str
    idempotency_key: str


@dataclass
class Kept:
    """All that the server answered for, in one run."""

    turned: str  # the key that is rotated
    events: dict[str, tuple[str, str]] = field(default_factory=dict)  # event id -> (operation, outcome)
    protected: list[Protected] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)  # name -> id
    versions: int = 0  # its highest version that was answered
    issued: dict[str, str] = field(default_factory=dict)  # credential id -> token
    revoked: dict[str, str] = field(default_factory=dict)
    checkpoints: list[bytes] = field(default_factory=list)
    open: list[Open] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # answers that should not have been
    refused: int = 0  # answers "unavailable", where the drill makes them likely

    @property
    def acknowledged(self) -> int:
        """How many things there are to find again."""
        return len(self.events) + len(self.protected) + len(self.keys) + len(self.issued) + len(self.revoked)


class Refused(Exception):
    """The server said that it cannot just now."""


class Load:
    """The clients of one run. With `patient`, an answer "unavailable" is no fault: the client waits a moment and goes on."""

    def __init__(self, live: Live, application: str, *, patient: bool = False) -> None:
        self.kept = Kept("turned-" + uuid.uuid4().hex)
        live.create_key(self.kept.turned)
        self._live = live
        self._application = application
        self._patient = patient
        self._lock = threading.Lock()
        self._end = threading.Event()
        loops = [self._encrypt, self._encrypt, self._batch, self._data_key, self._create, self._rotate, self._issue, self._audit]
        self._threads = [threading.Thread(target=loop, daemon=True) for loop in loops]

    def start(self) -> None:
        """Set them going."""
        for thread in self._threads:
            thread.start()

    def join(self) -> Kept:
        """End it and return what was kept, once every client has its last answer or has noticed that the server is gone."""
        self._end.set()
        for thread in self._threads:
            thread.join()
        return self.kept

    # ---- clients ------------------------------------------------------------------------------------------------------
    def _repeat(self, token: str, once: Callable[[Wire], None]) -> None:
        wire = Wire(self._live, token)
        try:
            while not self._end.is_set():
                try:
                    once(wire)
                except Refused:
                    self._end.wait(0.02)
        except Silence:
            return
        finally:
            wire.close()

    def _ask(self, wire: Wire, path: str, body: dict[str, Any], op: str, expected: int = 200) -> dict[str, Any]:
        status, answer = wire.post(path, body)
        self._note(path, status, answer, op, expected)
        return answer

    def _note(self, path: str, status: int, answer: dict[str, Any], op: str, expected: int) -> None:
        if self._patient and answer.get("code") == "unavailable":
            with self._lock:
                self.kept.refused += 1
            raise Refused
        if status != expected:
            with self._lock:
                self.kept.wrong.append(f"{path} answered {status}: {answer.get('code')} {answer.get('detail')}")
            raise Silence
        with self._lock:
            self.kept.events[answer["event"]] = (op, "ok")

    def _change(self, wire: Wire, token: str, path: str, body: dict[str, Any], op: str, expected: int) -> dict[str, Any]:
        key = str(uuid.uuid4())
        try:
            status, answer = wire.post(path, body, key)
            self._note(path, status, answer, op, expected)
        except (Silence, Refused):
            with self._lock:
                self.kept.open.append(Open(path, body, token, key))
            raise
        return answer

    def _encrypt(self) -> None:
        def once(wire: Wire) -> None:
            plaintext = base64.b64encode(os.urandom(48)).decode()
            context = {"patient": uuid.uuid4().hex, "purpose": "treatment"}
            answer = self._ask(wire, f"/v1/keys/{KEY}/encrypt", {"plaintext": plaintext, "context": context}, "encrypt")
            given = {"ciphertext": answer["ciphertext"], "context": context}
            self.kept.protected.append(Protected("decrypt", given, "plaintext", plaintext))

        self._repeat(self._application, once)

    def _batch(self) -> None:
        def once(wire: Wire) -> None:
            texts = [base64.b64encode(os.urandom(24)).decode() for _ in range(20)]
            items = [{"plaintext": text, "context": {"purpose": "research"}} for text in texts]
            answer = self._ask(wire, f"/v1/keys/{KEY}/encrypt/batch", {"items": items}, "encrypt")
            for text, result in zip(texts, answer["results"], strict=True):
                given = {"ciphertext": result["ciphertext"], "context": {"purpose": "research"}}
                self.kept.protected.append(Protected("decrypt", given, "plaintext", text))

        self._repeat(self._application, once)

    def _data_key(self) -> None:
        def once(wire: Wire) -> None:
            answer = self._ask(wire, f"/v1/keys/{KEY}/data-key", {}, "data-key")
            self.kept.protected.append(Protected("unwrap", {"wrapped": answer["wrapped"]}, "material", answer["plaintext"]))

        self._repeat(self._application, once)

    def _create(self) -> None:
        def once(wire: Wire) -> None:
            body = {"name": "made-" + uuid.uuid4().hex, "owner": "drill"}
            answer = self._change(wire, "custodian", "/v1/keys", body, "key-create", 201)
            self.kept.keys[answer["name"]] = answer["id"]

        self._repeat("custodian", once)

    def _rotate(self) -> None:
        def once(wire: Wire) -> None:
            answer = self._change(wire, "operator", f"/v1/keys/{self.kept.turned}/rotate", {}, "rotate", 200)
            self.kept.versions = max(self.kept.versions, answer["primary"])

        self._repeat("operator", once)

    def _issue(self) -> None:
        scope = {"operations": ["encrypt"], "keys": [KEY]}

        def once(wire: Wire) -> None:
            body = {"principal": uuid.uuid4().hex, "role": "application", "ttl_seconds": 86_400, "scope": scope}
            answer = self._change(wire, "operator", "/v1/credentials", body, "credential-issue", 201)
            self.kept.issued[answer["id"]] = answer["token"]
            if len(self.kept.issued) % 2:
                token = self.kept.issued.pop(answer["id"])
                path = f"/v1/credentials/{answer['id']}/revoke"
                self._change(wire, "operator", path, {"reason": "drill"}, "credential-revoke", 200)
                self.kept.revoked[answer["id"]] = token

        self._repeat("operator", once)

    def _audit(self) -> None:
        context = ssl.create_default_context(cafile=self._live.ca_file)
        while not self._end.wait(0.1):  # checkpoints are made more slowly than that
            try:
                with urllib.request.urlopen(self._live.url + "/v1/log/checkpoint", context=context, timeout=30) as answer:
                    raw = answer.read()
            except (OSError, http.client.HTTPException):
                return
            if raw not in self.kept.checkpoints:
                self.kept.checkpoints.append(raw)
