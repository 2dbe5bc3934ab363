"""Every error Keyclave raises on purpose, sorted by what the caller can do about it.

    KeyclaveError
      Malformed            the request is not well formed: correct it
        TooLarge           well formed, over a limit: send less
      Unauthenticated      we do not know who asks: present a live credential
      Refused              we know who asks, and the answer is no
        AssuranceRequired  we are not sure enough of who asks: log in with more
        StepUpRequired     the last proof of presence is too old: give a new one
        ApprovalRequired   others must approve this first
        SelfConflict       the same person may not hold both duties
      Unknown              no such thing, or not for you to know: same answer
      WrongState           the key's state does not permit this
      Conflict             somebody changed it first, or the name is taken
        StaleRevision      If-Match did not match
        IdempotencyReuse   the idempotency key was used with another request
      Undecipherable       the ciphertext does not open, whatever the reason
      InvalidSignature     the signature or MAC does not verify
      LimitReached         a usage limit or rate of policy is reached
      Sealed               the server holds no root key until it is unsealed
      Unavailable          try again later: disk full, database gone, root gone
      Broken               an invariant does not hold: the server stops using the thing

No HTTP here: each protocol maps `code` by a table that a test proves total. `detail` is safe to show to the caller and
ends with what to do next; anything private stays in the log of the process, never in the error.
"""

from __future__ import annotations

from typing import ClassVar


class KeyclaveError(Exception):
    """Base of all of them: a stable `code`, a safe sentence, and what to do next."""

    code: ClassVar[str] = "error"

    def __init__(self, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint


class Malformed(KeyclaveError):
    """The request is not well formed."""

    code = "malformed"


class TooLarge(Malformed):
    """Well formed, but over a documented limit."""

    code = "too_large"


class Unauthenticated(KeyclaveError):
    """No credential, or one that is unknown, expired or revoked: one answer for all of these."""

    code = "unauthenticated"


class Refused(KeyclaveError):
    """The caller is known and may not do this."""

    code = "refused"


class AssuranceRequired(Refused):
    """The caller is known, but not surely enough for this."""

    code = "assurance_required"


class StepUpRequired(Refused):
    """The last proof of presence is too old for this."""

    code = "step_up_required"


class ApprovalRequired(Refused):
    """Others must approve this first."""

    code = "approval_required"


class SelfConflict(Refused):
    """One person would hold two duties that must be separate."""

    code = "separation_of_duties"


class Unknown(KeyclaveError):
    """There is no such thing, or the caller may not learn whether there is."""

    code = "unknown"


class WrongState(KeyclaveError):
    """The state of the key does not permit this."""

    code = "wrong_state"


class Conflict(KeyclaveError):
    """The change collides with one that came first."""

    code = "conflict"


class StaleRevision(Conflict):
    """The caller's revision is not the current one."""

    code = "stale_revision"


class IdempotencyReuse(Conflict):
    """An idempotency key came again with another request."""

    code = "idempotency_reuse"


class Undecipherable(KeyclaveError):
    """A ciphertext or wrapped key does not open. One class, one sentence, whatever went wrong: anything finer is an oracle."""

    code = "undecipherable"

    def __init__(self) -> None:
        super().__init__(
            "the ciphertext does not open",
            "check that it is complete, that the key is the one it was made with, and that the encryption context is the same",
        )


class InvalidSignature(KeyclaveError):
    """A signature or MAC does not verify."""

    code = "invalid_signature"

    def __init__(self) -> None:
        super().__init__(
            "the signature or MAC does not verify",
            "check the message, the algorithm and the key version it was made with",
        )


class LimitReached(KeyclaveError):
    """A usage limit or a rate limit is reached; `wait` is in how many seconds it is worth trying again."""

    code = "limit_reached"

    def __init__(self, detail: str, hint: str = "", wait: float = 1.0) -> None:
        super().__init__(detail, hint)
        self.wait = wait


class Sealed(KeyclaveError):
    """The root key is not in memory."""

    code = "sealed"

    def __init__(self) -> None:
        super().__init__("the server is sealed", "custodians unseal it with `keyclave unseal`")


class Unavailable(KeyclaveError):
    """Something the server needs does not answer; nothing was done."""

    code = "unavailable"


class Broken(KeyclaveError):
    """An invariant does not hold. Nothing that depends on it may go on."""

    code = "broken"
