"""Single sign-on in the API's document: addresses that a browser visits, not calls that a program makes."""

from __future__ import annotations

from typing import Any

from keyclave.operations.people.sso import ProviderList
from keyclave.protocols.rest.problems import Problem

_TEXT = {"type": "string"}
_PAGE = {"text/html": {"schema": _TEXT}}


def types_of_sign_on() -> list[type]:
    """Return every type that `document_sign_on` names."""
    return [ProviderList]


def document_sign_on(named: dict[Any, Any]) -> dict[str, Any]:
    """Return the paths; `named` are the schemas by type."""
    provider = {"name": "provider", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    refused = {
        "description": "what went wrong, as a page for whoever comes with a browser",
        "content": {"application/problem+json": {"schema": named[Problem]}, **_PAGE},
    }
    start = [provider, _query("cli", "a command line that waits"), _query("step_up", "1: confirm the session of this browser")]
    back = [provider, *(_query(name, "the provider's answer") for name in ("code", "state", "iss", "error"))]
    listed = {"description": "the providers", "content": {"application/json": {"schema": named[ProviderList]}}}
    away = {"description": "to the provider", "headers": {"location": {"schema": _TEXT}}}
    done = {"description": "logged in; the session is in a cookie", "content": _PAGE}
    return {
        "/v1/sso": _visit("sso", "List the providers of single sign-on.", [], {"200": listed}, refused),
        "/v1/sso/{provider}/start": _visit("sso-start", "Go to a provider to log in.", start, {"303": away}, refused),
        "/v1/sso/{provider}/callback": _visit("sso-callback", "Come back from a provider.", back, {"200": done}, refused),
    }


def _query(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": _TEXT}


def _visit(identity: str, summary: str, parameters: list[Any], answers: dict[str, Any], refused: Any) -> dict[str, Any]:
    entry = {
        "operationId": identity,
        "summary": summary,
        "tags": ["login"],
        "security": [],
        "parameters": parameters,
        "responses": {**answers, "4XX": refused, "5XX": refused},
    }
    return {"get": entry}
