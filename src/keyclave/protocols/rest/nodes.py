"""What nodes are asked that is no operation of a caller: how they are, and for the root key by another node."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from keyclave.identity.peer import Peer
from keyclave.operations.answers import encode_answer
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.nodes import hand_on
from keyclave.operations.nodes.health import Health, can_decrypt, readiness
from keyclave.protocols.rest.bodies import read_alone

_HEADERS = {"cache-control": "no-store"}


def node_routes(
    desk: Desk,
    guarded: Callable[[Callable[[Request], Any]], Callable[[Request], Any]],
    body: Callable[[Request], Awaitable[bytes]],
    peer_of: Callable[[Request], Peer],
) -> list[Route]:
    """Return the routes. Those of health need no credential; the others need a node's certificate."""

    async def live(_request: Request) -> Response:
        return _json(Health("live"))

    async def ready(_request: Request) -> Response:
        found = readiness(desk)
        return _json(found, 200 if found.status == "ready" else 503)

    async def stale(_request: Request) -> Response:
        found = can_decrypt(desk)
        return _json(found, 200 if found.status in ("ready", "stale") else 503)

    async def nonce(request: Request) -> Response:
        return _json(hand_on.give_nonce(desk, peer_of(request)))

    async def unseal(request: Request) -> Response:
        asked = read_alone(await body(request), hand_on.HandOnRequest)
        answered: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()

        def answer(attempt: Attempt) -> None:
            if not answered.done():  # the asking node may be gone
                answered.set_result(attempt)

        hand_on.hand_on(desk, peer_of(request), asked, answer)
        attempt = await answered
        if attempt.error is not None:
            raise attempt.error
        attempt.answer.event = attempt.event
        return _json(attempt.answer)

    return [
        Route("/v1/health/live", guarded(live)),
        Route("/v1/health/ready", guarded(ready)),
        Route("/v1/health/stale", guarded(stale)),
        Route("/v1/node-unseal/nonce", guarded(nonce), methods=["POST"]),
        Route("/v1/node-unseal", guarded(unseal), methods=["POST"]),
    ]


def _json(answer: Any, status: int = 200) -> Response:
    return Response(encode_answer(answer), status, media_type="application/json", headers=_HEADERS)
