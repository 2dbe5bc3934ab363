"""The policy: what is in force, what a change would mean, who can do what, and the change itself.

Answers are the server's JSON objects. A bundle is a mapping of file names to texts; `bundle_digest` is the one that people sign.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import rfc8785

from keyclave_client.answers import part, to_base64
from keyclave_client.errors import KeyclaveError
from keyclave_client.own_key import OwnKey
from keyclave_client.transport import Request, Transport

Files = Mapping[str, str]


class Policies:
    """Reading, judging and applying policies."""

    _transport: Transport

    def policy(self, revision: int | None = None) -> dict[str, Any]:
        """Return the policy in force, or another revision, with its files."""
        query = None if revision is None else {"revision": str(revision)}
        return self._policy_object(Request("GET", "/v1/policy", query=query, repeatable=True))

    def policy_revisions(self, page: int = 100) -> Iterator[dict[str, Any]]:
        """Yield revisions, newest first."""
        before: int | None = 2**31 - 1
        while before is not None:
            query = {"before": str(before), "limit": str(page)}
            got = self._policy_object(Request("GET", "/v1/policy/revisions", query=query, repeatable=True))
            yield from part(got, "revisions")
            before = got.get("next")

    def validate_policy(self, files: Files) -> dict[str, Any]:
        """Return everything that is wrong with a bundle."""
        return self._ask_policy("validate", {"files": dict(files)})

    def plan_policy(self, files: Files, *, reach: bool = True) -> dict[str, Any]:
        """Return what a bundle would change; `reach`: also for whom."""
        return self._ask_policy("plan", {"files": dict(files), "reach": reach})

    def explain_policy(self, supposition: Mapping[str, Any]) -> dict[str, Any]:
        """Return why somebody may do something, or why not."""
        return self._ask_policy("explain", supposition)

    def run_policy_cases(self, cases: Sequence[Mapping[str, Any]], files: Files | None = None) -> dict[str, Any]:
        """Run cases against a bundle, or against the policy in force."""
        body: dict[str, Any] = {"cases": [dict(case) for case in cases]}
        return self._ask_policy("test", body if files is None else {**body, "files": dict(files)})

    def simulate_policy(self, files: Files, days: int = 30) -> dict[str, Any]:
        """Return which calls of the last days would come out otherwise under a bundle."""
        return self._ask_policy("simulate", {"files": dict(files), "days": days})

    def apply_policy(
        self, files: Files, expected: int, *, reason: str = "", key: OwnKey | None = None, authenticator: str = ""
    ) -> dict[str, Any]:
        """Put a bundle in force after revision `expected`; signed with an enrolled `key` if one is given.

        It needs the approval that `Client(approval=…)` names: of exactly this, to the letter.
        """
        act = self._act(files, expected, reason, key, authenticator)
        return self._policy_object(Request("POST", "/v1/policy/apply", act, idempotency_key=str(uuid.uuid4())))

    def request_policy(
        self, files: Files, expected: int, reason: str, *, key: OwnKey | None = None, authenticator: str = ""
    ) -> dict[str, Any]:
        """Ask others to approve that a bundle is put in force; executing the approval does it."""
        act = self._act(files, expected, reason, key, authenticator)
        body = {"operation": "policy-apply", "ref": "", "request": act, "reason": reason}
        return self._policy_object(Request("POST", "/v1/approvals", body, idempotency_key=str(uuid.uuid4())))

    def _act(self, files: Files, expected: int, reason: str, key: OwnKey | None, authenticator: str) -> dict[str, Any]:
        act: dict[str, Any] = {"files": dict(files), "expected": expected, "reason": reason}
        if key is not None:
            tenant = str(self._policy_object(Request("GET", "/v1/whoami", repeatable=True)).get("tenant"))
            said = statement(tenant, files, expected + 1)
            act["signature"] = {"authenticator": authenticator, "signature": to_base64(key.sign(said))}
        return act

    def who_can(self, operation: str, key: str = "") -> dict[str, Any]:
        """Return everybody who may do an operation on a key, whole."""
        query, found = {"operation": operation, "key": key, "limit": "1000"}, dict[str, Any]()
        while True:
            got = self._policy_object(Request("GET", "/v1/who-can", query=query, repeatable=True))
            for name in ("can", "could", "barred"):
                got[name] = [*found.get(name, []), *part(got, name)]
            found = got
            if not got.get("next"):
                return found
            query["cursor"] = str(got["next"])

    def _ask_policy(self, what: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._policy_object(Request("POST", f"/v1/policy/{what}", body, repeatable=True))

    def _policy_object(self, request: Request) -> dict[str, Any]:
        got = self._transport.json(request)
        if not isinstance(got, dict):
            raise KeyclaveError("the answer is not a JSON object", "check the address and what stands between")
        return got


def bundle_digest(files: Files) -> bytes:
    """Return the SHA-256 of a bundle's canonical form (spec/policy.md)."""
    return hashlib.sha256(rfc8785.dumps({"files": dict(files), "format": "keyclave/policy/1"})).digest()


def statement(tenant: str, files: Files, revision: int) -> bytes:
    """Return what is signed for a bundle to become that revision of a tenant's policy."""
    said: dict[str, Any] = {"bundle": bundle_digest(files).hex(), "format": "keyclave/policy-apply/1", "revision": revision}
    return rfc8785.dumps({**said, "tenant": tenant})
