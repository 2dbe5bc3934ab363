"""The ordinary way: Starlette serves what is not a POST of the table, and POSTs that could not take the fast lane."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from keyclave.audit.tiles import parse_path
from keyclave.core import limits
from keyclave.core.errors import (
    Broken,
    KeyclaveError,
    LimitReached,
    Malformed,
    TooLarge,
    Unknown,
    WrongState,
)
from keyclave.identity.caller import Caller
from keyclave.identity.peer import Peer, Plane
from keyclave.operations import read_log, unseal
from keyclave.operations.answers import encode_answer
from keyclave.operations.attempt import Attempt
from keyclave.operations.operation import Operation
from keyclave.operations.tenants import check_home
from keyclave.protocols.rest import workloads
from keyclave.protocols.rest.bodies import read_alone
from keyclave.protocols.rest.gateway import JSON, Gateway, read_head
from keyclave.protocols.rest.login import login_routes
from keyclave.protocols.rest.nodes import node_routes
from keyclave.protocols.rest.openapi import document
from keyclave.protocols.rest.problems import CONTENT_TYPE, malformed, problem, retry_after
from keyclave.protocols.rest.sso import sign_on_routes

logger = logging.getLogger("keyclave.rest")

_DIGITS = 20  # a number of events has fewer
_NO_STORE = {"cache-control": "no-store"}
_IMMUTABLE = {"cache-control": "private, max-age=31536000, immutable"}


def application(gateway: Gateway, operations: list[Operation], plane: Plane = Plane.BOTH) -> Starlette:
    """Return the ASGI application of a listener. Where keys are only used, what only managing needs is not there at all."""
    desk = gateway.desk

    @cache
    def api() -> bytes:
        return msgspec.json.format(msgspec.json.encode(document(operations)), indent=2)

    async def health(_request: Request) -> Response:
        status = "broken" if desk.module.fault() else "sealed" if desk.vault.sealed else "ok"
        return _json({"status": status}, 200 if status == "ok" else 503)

    async def status(_request: Request) -> Response:
        return _json(unseal.status(desk))

    async def openapi(_request: Request) -> Response:
        text = await asyncio.to_thread(api)  # printing it takes too long for the loop, and for starting
        return Response(text, media_type="application/json", headers={"cache-control": "no-cache"})

    async def offer(request: Request) -> Response:
        body = read_alone(await _body(request), unseal.UnsealRequest)
        answered: asyncio.Future[Attempt] = asyncio.get_running_loop().create_future()
        caller = _bearer(gateway, request)
        try:
            unseal.offer_share(desk, peer_of(request), body, lambda attempt: _resolve(answered, attempt), caller)
        except (LimitReached, TooLarge, WrongState):
            gateway.refused(peer_of(request).address, "unseal")
            raise
        attempt = await answered
        if attempt.error is not None:
            return _problem(attempt.error, attempt.event)
        attempt.answer.event = attempt.event
        return _json(attempt.answer)

    async def checkpoint(request: Request) -> Response:
        desk.log.refresh()
        size = request.path_params.get("size")
        return Response(
            desk.log.published(None if size is None else _size(size)),
            media_type="text/plain",
            headers={"cache-control": "max-age=1"},
        )

    async def keys(_request: Request) -> Response:
        return _json({"origin": desk.log.origin, "vkeys": desk.log.vkeys})

    async def tile(request: Request) -> Response:
        caller = caller_of(gateway, request)
        read_log.check_reader(desk, caller, peer_of(request))
        name = parse_path("tile/" + request.path_params["path"])
        if name.level is None:  # entries name people and keys of every tenant; hashes tell nothing
            check_home(desk, caller)
        desk.log.refresh()
        data = await asyncio.to_thread(desk.log.tile, name.level, name.index, name.width)
        return Response(data, media_type="application/octet-stream", headers=_IMMUTABLE)

    async def sizes(request: Request) -> Response:
        read_log.check_reader(desk, caller_of(gateway, request), peer_of(request))
        query = msgspec.convert(_query(request), SizesQuery, strict=False)
        return _json({"sizes": desk.log.sizes(query.after, limits.PAGE)})

    async def receipt(request: Request) -> Response:
        caller = caller_of(gateway, request)
        desk.log.refresh()
        found = read_log.read_receipt(desk, caller, peer_of(request), request.path_params["event"])
        return _json(found, 200 if isinstance(found, read_log.ReceiptAnswer) else 202)

    async def consistency(request: Request) -> Response:
        caller = caller_of(gateway, request)
        query = msgspec.convert(_query(request), read_log.ConsistencyQuery, strict=False)
        desk.log.refresh()
        return _json(read_log.read_consistency(desk, caller, peer_of(request), query))

    routes = [
        Route("/v1/health", _guarded(health)),
        Route("/v1/status", _guarded(status)),
        Route("/v1/openapi.json", _guarded(openapi)),
        Route("/v1/unseal", _guarded(offer), methods=["POST"]),
        Route("/v1/log/checkpoint", _guarded(checkpoint)),
        Route("/v1/log/checkpoint/{size}", _guarded(checkpoint)),
        Route("/v1/log/checkpoints", _guarded(sizes)),
        Route("/v1/log/keys", _guarded(keys)),
        Route("/v1/log/tile/{path:path}", _guarded(tile)),
        Route("/v1/audit/receipts/{event}", _guarded(receipt)),
        Route("/v1/audit/consistency", _guarded(consistency)),
        *login_routes(gateway, _guarded, _body, peer_of),
        *sign_on_routes(gateway, _guarded, _query, peer_of),
        *workloads.routes(desk, _guarded),
        *node_routes(desk, _guarded, _body, peer_of),
        *_operation_routes(gateway, operations),
    ]
    if plane is Plane.DATA:
        there = _ON_DATA | {op.path for op in operations}
        routes = [route for route in routes if route.path in there]
    served = Starlette(routes=routes, exception_handlers={404: _absent, 405: _absent})
    served.router.redirect_slashes = False  # a redirect would be made of the request's Host header, token and all
    return served


_ON_DATA = frozenset(
    {
        "/v1/health", "/v1/health/live", "/v1/health/ready", "/v1/health/stale", "/v1/status", "/v1/openapi.json",
        "/v1/log/checkpoint", "/v1/log/keys", "/v1/audit/receipts/{event}",
        "/v1/crl", "/v1/crl/{authority}", "/v1/authority", "/v1/spiffe-bundle",
    }
)  # fmt: skip
"""What is not an operation and is served beside the use of keys: how the server is, and what proves and checks one's own."""


def _size(text: str) -> int:
    """Read the size of a checkpoint; what is no number of a log's events names none."""
    if not (text.isascii() and text.isdigit() and len(text) < _DIGITS):
        raise Unknown("no such checkpoint", "ask for the newest")
    return int(text)


class SizesQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Checkpoints larger than `after`."""

    after: read_log.Index = 0


def _operation_routes(gateway: Gateway, operations: list[Operation]) -> list[Route]:
    """Return one route for each path: so that what is allowed there is said whole."""
    by_path: dict[str, dict[str, Callable[[Request], Any]]] = {}
    for op in operations:
        by_path.setdefault(op.path, {})[op.method] = _guarded(_performing(gateway, op))

    def choose(handlers: dict[str, Callable[[Request], Any]]) -> Callable[[Request], Any]:
        async def chosen(request: Request) -> Response:
            response: Response = await handlers["GET" if request.method == "HEAD" else request.method](request)
            return response

        return chosen

    return [Route(path, choose(handlers), methods=list(handlers)) for path, handlers in by_path.items()]


def _performing(gateway: Gateway, op: Operation) -> Callable[[Request], Any]:
    async def perform(request: Request) -> Response:
        params = request.path_params
        ref = next(iter(params.values()), "")
        content: bytes | Mapping[str, str]
        content = _query(request) if op.method == "GET" else await _body(request)
        head = read_head(request.scope["headers"], b"" if op.method == "GET" else request.scope["query_string"])
        answered: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

        def respond(status: int, kind: bytes, body: bytes, more: Iterable[tuple[bytes, bytes]]) -> None:
            response = Response(body, status, media_type=kind.decode(), headers=_NO_STORE)
            for name, value in more:
                response.headers[name.decode()] = value.decode()
            _resolve(answered, response)

        gateway.submit(op, ref, head, content, peer_of(request), respond)
        return await answered

    return perform


def _resolve(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():  # the client may be gone and its task cancelled: what was done stays done
        future.set_result(value)


def _guarded(handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
    async def guarded(request: Request) -> Response:
        try:
            response: Response = await handler(request)
        except KeyclaveError as error:
            return _problem(error)
        except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as fault:
            return _problem(malformed(fault))
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as fault:
            logger.error("a request failed", exc_info=fault)
            return _problem(Broken("the request failed", "see the server's log"))
        return response

    return guarded


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limits.BODY:
            raise TooLarge(f"the request is larger than {limits.BODY} bytes", "send fewer items, or use a data key")
    return bytes(body)


def _query(request: Request) -> dict[str, str]:
    pairs = request.query_params.multi_items()
    query = dict(pairs)
    if len(query) != len(pairs):
        raise Malformed("a query parameter is there twice", "send it once")
    return query


def caller_of(gateway: Gateway, request: Request) -> Caller:
    """Return who sent the request, or raise `Unauthenticated`."""
    reading = request.method in ("GET", "HEAD")
    return gateway.caller(read_head(request.scope["headers"], b""), peer_of(request), reading=reading)


def _bearer(gateway: Gateway, request: Request) -> Caller | None:
    """Return who sent the request, if it carries a credential that is alive: for what needs none, and only records it."""
    if "authorization" not in request.headers:
        return None
    try:
        return caller_of(gateway, request)
    except KeyclaveError:  # dead, doubled or too often wrong: as good as none
        return None


def peer_of(request: Request) -> Peer:
    """Return the other end of the request's connection, as the listener saw it."""
    peer: Peer = request.scope["extensions"]["keyclave.peer"]
    return peer


def _json(answer: Any, status: int = 200) -> Response:
    return Response(encode_answer(answer), status, media_type=JSON.decode(), headers=_NO_STORE)


def _problem(error: KeyclaveError, event: str = "") -> Response:
    status, body = problem(error, event)
    headers = dict(_NO_STORE)
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="keyclave"'
    if status in (429, 503):
        headers["retry-after"] = str(retry_after(error))
    return Response(body, status, media_type=CONTENT_TYPE.decode(), headers=headers)


def _absent(_request: Request, fault: Exception) -> Response:
    status = getattr(fault, "status_code", 404)
    absent = Unknown("there is nothing at this path and method", "see /v1/openapi.json")
    _, body = problem(absent, status=status)
    response = Response(body, status, media_type=CONTENT_TYPE.decode(), headers=_NO_STORE)
    for name, value in (getattr(fault, "headers", None) or {}).items():
        response.headers[name] = value
    return response
