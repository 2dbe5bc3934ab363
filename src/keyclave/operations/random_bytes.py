"""random: bytes from the module's DRBG, for callers whose own source is not trusted."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from keyclave.core import limits
from keyclave.crypto.disclosure import disclose
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.forms import Answer, Base64, Request
from keyclave.operations.keyring import LoadedKey


class RandomRequest(Request, kw_only=True):
    """How many bytes."""

    bytes: Annotated[int, Meta(ge=1, le=limits.RANDOM)] = 32


class RandomAnswer(Answer, kw_only=True):
    """Random bytes."""

    random: Base64


def random_bytes(desk: Desk, _attempt: Attempt, _key: LoadedKey | None, request: RandomRequest) -> RandomAnswer:
    """Draw random bytes; what a caller asks for may become a key, so it passes through locked memory only."""
    with desk.module.random_slot(request.bytes) as slot:
        return RandomAnswer(random=disclose(slot))
