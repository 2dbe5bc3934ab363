"""A log of a test's own, signed with keys of its own: whatever a server would never write can stand in it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyclave.audit.checkpoint import sign_checkpoint
from keyclave.audit.note import signer_keys
from keyclave.audit.proofs import prove_inclusion, tree_root
from keyclave.audit.receipt import encode_receipt
from keyclave.crypto.arena import slot_from
from keyclave.crypto.log_keys import LogSigner
from keyclave_verify.checkpoints import Trust, load_trust

ORIGIN = "example.org/log"
BEGAN = 1_800_000_000_000_000  # microseconds
HOUR = 3600 * 1_000_000


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class MadeLog:
    """Events, one after the other, a second apart."""

    def __init__(self) -> None:
        self.signer = LogSigner(slot_from(bytearray(range(64))))
        self.entries: list[bytes] = []

    def trust(self) -> Trust:
        return load_trust("\n".join(str(key) for key in signer_keys(ORIGIN, self.signer)) + "\n", "vkeys")

    def now(self) -> int:
        return BEGAN + 1_000_000 * len(self.entries)

    def add(self, op: str, actor: str, outcome: str = "ok", **fields: Any) -> int:
        """Add an event and return its place."""
        event = {"actor": actor, "at": self.now(), "op": op, "outcome": outcome, "tenant": "ten_t", **fields}
        self.entries.append(canonical({**event, "id": f"n-{len(self.entries)}"}).encode())
        return len(self.entries) - 1

    def tile(self, level: int, index: int, width: int) -> bytes:
        assert (level, index) == (0, 0)
        return b"".join(sha256(b"\x00" + entry).digest() for entry in self.entries[:width])

    def checkpoint(self) -> str:
        size = len(self.entries)
        return sign_checkpoint(ORIGIN, size, tree_root(size, self.tile), self.signer, self.now() // 1_000_000 + 1)

    def receipt(self, index: int) -> dict[str, Any]:
        proof = encode_receipt(index, prove_inclusion(index, len(self.entries), self.tile), self.checkpoint())
        leaf = base64.b64encode(self.entries[index]).decode()
        return {"event": f"n-{index}", "index": index, "leaf": leaf, "proof": proof}

    def export(self, folder: Path) -> Path:
        """Write the log as `keyclave audit export` does."""
        size = len(self.entries)
        assert 0 < size < 256
        for name, content in (
            ("checkpoint", self.checkpoint().encode()),
            (f"tile/0/000.p/{size}", self.tile(0, 0, size)),
            (f"tile/entries/000.p/{size}", b"".join(len(entry).to_bytes(2, "big") + entry for entry in self.entries)),
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder


class Approved:
    """A destruction that ann and bob approved with keys of level `aal`, under a rule that asks for `assurance`.

    `between` adds what happens meanwhile: it is called with each moment's name before it. With `people` it is their roles that are
    changed instead, in one execution, which fails for the last of them.
    """

    def __init__(
        self,
        log: MadeLog,
        between: Any = lambda log, moment: None,
        *,
        aal: int = 2,
        assurance: int = 1,
        people: Sequence[str] = (),
    ) -> None:
        self.log = log
        keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("ann", "bob")}
        public = {
            name: key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for name, key in keys.items()
        }
        self.enrolled = {
            name: log.add(
                "authenticator-enrol", name,
                detail={
                    "aal": aal, "authenticator": f"aut_{name}", "kind": "key", "principal": name,
                    "public_sha256": sha256(public[name]).hexdigest(),
                },
            )
            for name in keys
        }  # fmt: skip
        between(log, "request")
        at = log.now()
        operation, items = "destroy", [{"label": "k", "ref": "key_k", "request": {}}]
        if people:
            operation, items = "person-roles", [{"ref": name, "request": {}} for name in people]
        rule = {"assurance": assurance, "count": 2, "hours": 24, "roles": ["custodian"]}
        self.request = canonical(
            {
                "expires_at": at + 24 * HOUR, "format": "keyclave/approval-request/1", "id": "apr_a",
                "items": items, "nonce": "00", "operation": operation, "reason": "over",
                "requested_at": at, "requester": "cem", "rule": rule, "tenant": "ten_t",
            }
        )  # fmt: skip
        self.digest = sha256(self.request.encode()).hexdigest()
        asked = {"asked": operation, "items": len(items), "request": self.digest}
        self.requested = log.add("approval-request", "cem", approval="apr_a", reason="over", detail=asked)
        self.signed: dict[str, tuple[str, int]] = {}
        for name in keys:
            between(log, name)
            said = {
                "approver": name, "at": log.now(), "authenticator": f"aut_{name}", "decision": "approve",
                "format": "keyclave/approval/1", "request": self.digest, "tenant": "ten_t",
            }  # fmt: skip
            detail = {
                "authenticator": f"aut_{name}", "kind": "key", "request": self.digest, "roles": "custodian",
                "statement": sha256(canonical(said).encode()).hexdigest(),
            }  # fmt: skip
            self.signed[name] = canonical(said), log.add("approval-sign", name, approval="apr_a", detail=detail, role="custodian")
        between(log, "end")
        self.items: list[int] = []
        if people:
            self.ended = log.add(
                "approval-execute", "cem", approval="apr_a", detail={"items": len(items), "request": self.digest}
            )
            outcomes = ["ok"] * (len(people) - 1) + ["unknown"]
            self.items = [
                log.add(operation, "cem", outcome, approval="apr_a", detail={"principal": name})
                for name, outcome in zip(people, outcomes, strict=True)
            ]
        else:
            self.ended = log.add("destroy", "cem", approval="apr_a", key="key_k")
        between(log, "after")
        self.keys, self.public = keys, public

    def bundle(self) -> bytes:
        receipt = self.log.receipt
        signatures = [
            {
                "statement": text, "kind": "key", "public": base64.b64encode(self.public[name]).decode(),
                "proof": {"signature": base64.b64encode(self.keys[name].sign(text.encode(), ec.ECDSA(hashes.SHA256()))).decode()},
                "receipt": receipt(index), "enrolment": receipt(self.enrolled[name]),
            }
            for name, (text, index) in self.signed.items()
        ]  # fmt: skip
        said = {
            "format": "keyclave/approval-bundle/1", "origin": ORIGIN, "relying": {"id": "localhost", "origins": []},
            "request": self.request, "status": "executed", "signatures": signatures, "requested": receipt(self.requested),
            "ended": receipt(self.ended), "items": [receipt(index) for index in self.items],
        }  # fmt: skip
        return json.dumps(said).encode()
