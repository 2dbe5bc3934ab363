"""What anybody may fetch about workloads' certificates: revocation lists, bundles in PEM and as SPIFFE's JWK set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from keyclave.core.errors import Malformed
from keyclave.operations.desk import Desk
from keyclave.operations.workloads.authority import published_bundle, published_list, spiffe_bundle

CRL = "application/pkix-crl"
PEM = "application/pem-certificate-chain"
_SHORT = {"cache-control": "max-age=60"}

Guard = Callable[[Callable[[Request], Any]], Callable[[Request], Any]]


class BundleQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Whose: the home tenant's where none is named."""

    tenant: str = ""


def routes(desk: Desk, guarded: Guard) -> list[Route]:
    """Return the routes; each is public, for whoever checks a workload's certificate needs them first."""

    async def crl(request: Request) -> Response:
        identity = request.path_params.get("authority", "")
        return Response(published_list(desk, identity), media_type=CRL, headers=_SHORT)

    async def authority(request: Request) -> Response:
        return Response(published_bundle(desk, _tenant(request)), media_type=PEM, headers=_SHORT)

    async def bundle(request: Request) -> Response:
        body = msgspec.json.encode(spiffe_bundle(desk, _tenant(request)))
        return Response(body, media_type="application/json", headers=_SHORT)

    return [
        Route("/v1/crl", guarded(crl)),
        Route("/v1/crl/{authority}", guarded(crl)),
        Route("/v1/authority", guarded(authority)),
        Route("/v1/spiffe-bundle", guarded(bundle)),
    ]


def _tenant(request: Request) -> str:
    pairs = request.query_params.multi_items()
    if len(pairs) > 1:
        raise Malformed("a query parameter is there twice", "send it once")
    return msgspec.convert(dict(pairs), BundleQuery).tenant


def paths() -> dict[str, Any]:
    """Return what the OpenAPI document says of them."""
    octets = {"type": "string", "format": "binary"}
    keys = {"type": "object", "properties": {"keys": {"type": "array", "items": {"type": "object"}}}, "required": ["keys"]}
    tenant = {"name": "tenant", "in": "query", "required": False, "schema": {"type": "string"}}
    named = {"name": "authority", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    return {
        "/v1/crl": _get("crl", "The revocation list of the authority that issues.", octets, CRL, []),
        "/v1/crl/{authority}": _get("crl-of-authority", "The revocation list of an authority.", octets, CRL, [named]),
        "/v1/authority": _get("authority", "The certificates of a tenant's authorities.", {"type": "string"}, PEM, [tenant]),
        "/v1/spiffe-bundle": _get("spiffe-bundle", "The same as a SPIFFE bundle.", keys, "application/json", [tenant]),
    }


def _get(identity: str, summary: str, schema: dict[str, Any], kind: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    answers: dict[str, Any] = {status: {"$ref": "#/components/responses/Problem"} for status in ("4XX", "5XX")}
    answers["200"] = {"description": summary, "content": {kind: {"schema": schema}}}
    return {
        "get": {
            "operationId": identity, "summary": summary, "tags": ["workloads"], "security": [], "parameters": parameters,
            "responses": answers,
        }
    }  # fmt: skip
