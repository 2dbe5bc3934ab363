"""What an answer says, where tests ask for its code alone."""

from __future__ import annotations

import httpx


def code(answer: httpx.Response) -> str:
    """Return "ok" or the error's code, after checking that the error is a problem as RFC 9457 has it."""
    if answer.status_code < 400:
        return "ok"
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["type"]) == (answer.status_code, f"urn:keyclave:error:{problem['code']}")
    assert problem["title"]
    assert problem["detail"]
    assert problem.get("hint"), "an error says what to do next"
    return str(problem["code"])
