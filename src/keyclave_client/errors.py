"""Every error this package raises on purpose, sorted by what the caller can do about it.

    KeyclaveError
      Malformed            the request is not well formed: correct it
        TooLarge           over a limit: send less, or encrypt locally
      Unauthenticated      no live credential: get one
      Refused              known, and the answer is no
        SelfConflict       the same person may not hold both duties
      Unknown              no such thing, or not for you to know
      WrongState           the key's state does not permit this
      Conflict             somebody changed it first, or the name is taken
        StaleRevision      If-Match did not match: read again
        IdempotencyReuse   the idempotency key came with another request
      Undecipherable       a ciphertext, wrapped key or local object does not open, whatever the reason
      InvalidSignature     a signature or MAC does not verify
      LimitReached         a usage or rate limit: wait, or ask for more
      Sealed               the server waits for its custodians (retryable)
      Unavailable          try again later (retryable)
        Unreachable        no answer came at all; the server may or may not have acted
      Broken               the server found an invariant broken: tell its operators

The server's answer carries a stable `code`; a code this version does not know becomes the base class, so a newer server never
turns an error into a crash. No error holds the token, key material or plaintext.
"""

from __future__ import annotations

from typing import ClassVar


class KeyclaveError(Exception):
    """Base of all: a stable `code`, `detail` and `hint` for people, HTTP `status` and audit `event` if the server gave them."""

    default_code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(
        self, detail: str, hint: str = "", *, code: str | None = None, status: int | None = None, event: str | None = None
    ) -> None:
        super().__init__(detail, hint)
        self.detail = detail
        self.hint = hint
        self.code = code or self.default_code
        self.status = status
        self.event = event

    def __str__(self) -> str:
        return f"{self.detail}: {self.hint}" if self.hint else self.detail


class Malformed(KeyclaveError):
    """The request is not well formed."""

    default_code = "malformed"


class TooLarge(Malformed):
    """Over a documented limit."""

    default_code = "too_large"


class Unauthenticated(KeyclaveError):
    """No credential, or one that is unknown, expired or revoked."""

    default_code = "unauthenticated"


class Refused(KeyclaveError):
    """The caller is known and may not do this."""

    default_code = "refused"


class AssuranceRequired(Refused):
    """The server is not sure enough of who asks: log in with a stronger proof."""

    default_code = "assurance_required"


class StepUpRequired(Refused):
    """The last proof of presence is too old: give a new one."""

    default_code = "step_up_required"


class ApprovalRequired(Refused):
    """Others must approve this first."""

    default_code = "approval_required"


class SelfConflict(Refused):
    """One person would hold two duties that must be separate."""

    default_code = "separation_of_duties"


class Unknown(KeyclaveError):
    """There is no such thing, or the caller may not learn whether there is."""

    default_code = "unknown"


class WrongState(KeyclaveError):
    """The state of the key does not permit this."""

    default_code = "wrong_state"


class Conflict(KeyclaveError):
    """The change collides with one that came first."""

    default_code = "conflict"


class StaleRevision(Conflict):
    """The caller's revision is not the current one."""

    default_code = "stale_revision"


class IdempotencyReuse(Conflict):
    """An idempotency key came again with another request."""

    default_code = "idempotency_reuse"


class Undecipherable(KeyclaveError):
    """It does not open. One class and one sentence, whatever went wrong: anything finer would be an oracle."""

    default_code = "undecipherable"

    def __init__(
        self,
        detail: str = "the ciphertext does not open",
        hint: str = "check that it is complete, and that key and encryption context are those it was made with",
        *,
        code: str | None = None,
        status: int | None = None,
        event: str | None = None,
    ) -> None:
        super().__init__(detail, hint, code=code, status=status, event=event)


class InvalidSignature(KeyclaveError):
    """A signature or MAC does not verify."""

    default_code = "invalid_signature"


class LimitReached(KeyclaveError):
    """A usage limit or a rate limit is reached."""

    default_code = "limit_reached"


class Sealed(KeyclaveError):
    """The server holds no root key until its custodians unseal it."""

    default_code = "sealed"
    retryable = True


class Unavailable(KeyclaveError):
    """Something the server needs does not answer; nothing was done."""

    default_code = "unavailable"
    retryable = True


class Unreachable(Unavailable):
    """No answer came. A change may have happened: repeat it with `idempotency_key`, and it is answered, not done again."""

    default_code = "unreachable"

    def __init__(self, detail: str, hint: str = "", *, idempotency_key: str | None = None) -> None:
        super().__init__(detail, hint)
        self.idempotency_key = idempotency_key


class Broken(KeyclaveError):
    """An invariant of the server does not hold."""

    default_code = "broken"


BY_CODE: dict[str, type[KeyclaveError]] = {
    kind.default_code: kind
    for kind in (
        Malformed, TooLarge, Unauthenticated, Refused, AssuranceRequired, StepUpRequired, ApprovalRequired, SelfConflict,
        Unknown, WrongState, Conflict, StaleRevision, IdempotencyReuse, Undecipherable,
        InvalidSignature, LimitReached, Sealed, Unavailable, Broken,
    )
}  # fmt: skip


def from_answer(body: object, status: int | None = None) -> KeyclaveError:
    """Return the error that a problem document (RFC 9457), or the `error` of a batch item, stands for."""
    if not isinstance(body, dict):
        kind = Unavailable if status in (502, 503) else KeyclaveError  # a proxy's own page
        return kind("the answer is not Keyclave's", "check the address and what stands between", status=status)
    code = body.get("code")
    kind = BY_CODE.get(code, KeyclaveError) if isinstance(code, str) else KeyclaveError
    detail = str(body.get("detail") or body.get("title") or "the server refused")
    event = body.get("event")
    return kind(
        detail,
        str(body.get("hint") or ""),
        code=code if isinstance(code, str) else None,
        status=status,
        event=event if isinstance(event, str) else None,
    )
