"""How a page asks: an operation of the table, as the person whose cookie came along, through the desk like every other caller."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from keyclave.core.errors import KeyclaveError, Malformed, Unknown
from keyclave.identity.caller import Caller
from keyclave.identity.peer import Peer
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.operation import Operation
from keyclave.operations.table import OPERATIONS

_ROWS: dict[tuple[str, str], Operation] = {(op.method, op.path): op for op in OPERATIONS}


def offers(method: str, path: str) -> bool:
    """Tell whether this server has the operation."""
    return (method, path) in _ROWS


class Visit:
    """A person's session on our pages, for one request."""

    def __init__(self, desk: Desk, caller: Caller, peer: Peer) -> None:
        self.desk = desk
        self.caller = caller
        self.peer = peer

    async def ask(self, method: str, path: str, said: Mapping[str, Any] | None = None, ref: str = "") -> Any:
        """Perform the operation at `path` of the REST table and return its answer, plain. Raises what it is refused with."""
        op = _ROWS.get((method, path))
        if op is None:
            raise Unknown("this server does not do this", "see /v1/openapi.json")
        request = _request(op, said or {})
        answered: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()

        def reply(attempt: Attempt) -> None:
            if not answered.done():  # the browser may be gone; what was done stays done
                answered.set_result(attempt)

        attempt = self.desk.begin(op, self.caller, self.peer, reply)
        attempt.by_cookie = True
        self.desk.perform(op, attempt, ref, request)
        done = await answered
        if done.error is not None:
            raise done.error
        return msgspec.to_builtins(done.answer)


def _request(op: Operation, said: Mapping[str, Any]) -> Any:
    form = op.query if op.method == "GET" else op.request
    if form is None:
        return None
    try:
        return msgspec.convert(dict(said), form, strict=False)
    except msgspec.ValidationError as fault:
        _say_which(fault)


def _say_which(fault: msgspec.ValidationError) -> NoReturn:
    """Name the field, never the value: it may be a secret in the wrong place."""
    _, _, where = str(fault).rpartition("`$.")
    field = where.rstrip("`").replace("_", " ")
    raise Malformed(f"{field or 'a field'} is not as it should be", "correct it and try again") from None


def sentence(error: KeyclaveError) -> str:
    """Return an error as a person reads it: what is wrong, and what to do next."""
    said = error.detail[:1].upper() + error.detail[1:]
    return f"{said}. {error.hint[:1].upper()}{error.hint[1:]}." if error.hint else f"{said}."
