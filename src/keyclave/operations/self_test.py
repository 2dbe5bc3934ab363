"""self-test: the module shows on demand that it still computes what the standards say. If it does not, the server stops."""

from __future__ import annotations

from keyclave.core.clock import to_text
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Answer, Request
from keyclave.operations.keyring import LoadedKey


class SelfTestRequest(Request, kw_only=True):
    """`full` adds a fresh key pair of every kind, which takes seconds."""

    full: bool = False


class SelfTestAnswer(Answer, kw_only=True):
    """All known answers were computed. A failure is the error `broken`, and the end of the server's service."""

    name: str
    version: str
    tested_at: str


def self_test(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: SelfTestRequest) -> SelfTestAnswer:
    """Run the known-answer tests."""
    attempt.detail = {"full": int(request.full)}
    desk.module.self_test(full=request.full)
    info = desk.module.info()
    return SelfTestAnswer(name=info.name, version=info.version, tested_at=to_text(info.self_tested_at))
