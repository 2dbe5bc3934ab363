"""Approvals: asking for what nobody does alone, signing what others ask for, executing what was approved."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from keyclave_client import approval_views as views
from keyclave_client.answers import decode, to_base64
from keyclave_client.calls import Calls
from keyclave_client.errors import KeyclaveError


class Approvals(Calls):
    """Asking, showing, signing, ending, executing. Every change carries an Idempotency-Key, so repeating one does it once."""

    def request_approval(
        self, operation: str, items: Sequence[Mapping[str, Any]], reason: str, *, idempotency_key: str | None = None
    ) -> views.Approval:
        """Ask for approval of one act or several: each item is {"ref", "request", "if_match"}, as the operation takes them."""
        body = {"operation": operation, "items": [dict(item) for item in items], "reason": reason}
        return decode(views.Approval, self._change("POST", "/v1/approvals", body, idempotency_key=idempotency_key))

    def get_approval(self, approval: str) -> views.Approval:
        """Return one request for approval."""
        return decode(views.Approval, self._read(_one(approval)))

    def list_approvals(self, *, open_only: bool = False) -> Iterator[views.Approval]:
        """Yield requests for approval, those that have ended too unless only open ones are asked for."""
        for item in self._pages("/v1/approvals", "approvals", {"open": "true"} if open_only else {}):
            yield decode(views.Approval, item)

    def begin_signing(self, approval: str, authenticator: str = "") -> views.Signing:
        """Return what the caller would sign, after checking that the statement is about the request that comes with it."""
        begun = decode(views.Signing, self._change("POST", f"{_one(approval)}/begin", {"authenticator": authenticator}))
        try:
            said, request = json.loads(begun.statement), json.loads(begun.canonical)
            honest = (
                said["request"] == sha256(begun.canonical.encode()).hexdigest()
                and said["decision"] == "approve"
                and request["id"] == approval
                and said["tenant"] == request["tenant"]
            )
        except (ValueError, KeyError, TypeError):
            honest = False
        if not honest:
            raise KeyclaveError("the statement is not about the request that was shown", "sign nothing, and tell a custodian")
        return begun

    def sign_approval(self, approval: str, signing: views.Signing, sign: Callable[[bytes], bytes]) -> views.Approval:
        """Approve: `sign` returns the DER ECDSA signature of the statement's bytes."""
        signature = to_base64(sign(signing.statement.encode()))
        body = {"statement": signing.statement, "signature": signature}
        return decode(views.Approval, self._change("POST", f"{_one(approval)}/sign", body))

    def deny_approval(self, approval: str, reason: str) -> views.Approval:
        """Deny a request: it approves nothing any more."""
        return decode(views.Approval, self._change("POST", f"{_one(approval)}/deny", {"reason": reason}))

    def withdraw_approval(self, approval: str, reason: str = "") -> views.Approval:
        """Take one's own request back."""
        return decode(views.Approval, self._change("POST", f"{_one(approval)}/withdraw", {"reason": reason}))

    def execute_approval(self, approval: str, *, dry_run: bool = False, idempotency_key: str | None = None) -> views.Execution:
        """Do what was approved, once; items that fail are in the results."""
        how = {"dry_run": dry_run, "idempotency_key": idempotency_key}
        return decode(views.Execution, self._change("POST", f"{_one(approval)}/execute", {}, **how))

    def approval_bundle(self, approval: str) -> dict[str, Any]:
        """Return what proves an approval offline (`keyclave-verify approval`)."""
        bundle = self._read(f"{_one(approval)}/bundle")
        if not isinstance(bundle, dict):
            raise KeyclaveError("the answer is no bundle", "check the address and what stands between")
        return bundle


def _one(approval: str) -> str:
    return "/v1/approvals/" + quote(approval, safe="")
