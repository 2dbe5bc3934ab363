"""The session's cookie: no script reads it; it goes to this host alone, over TLS alone, with no request of another site."""

from __future__ import annotations

from keyclave.operations.people.sessions import SessionAnswer

NAME = "__Host-keyclave"  # the prefix binds it to this host and to TLS (RFC 6265bis section 4.1.3)
_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Strict"
_LONGEST = 4096


def session_cookie(token: str) -> str:
    """Return the Set-Cookie value of a session. It ends with the browser; the server ends the session earlier."""
    return f"{NAME}={token}; {_ATTRIBUTES}"


def no_cookie() -> str:
    """Return the Set-Cookie value that takes the cookie away."""
    return f"{NAME}=; Max-Age=0; {_ATTRIBUTES}"


def move_to_cookie(answer: SessionAnswer) -> str:
    """Take the token out of an answer and return the Set-Cookie value that carries it: a page's scripts never see it."""
    token, answer.token = answer.token, ""
    return session_cookie(token)


def token_in(cookie: bytes) -> bytes:
    """Return the session's token in a Cookie header, or no bytes. Two of the name are none: which counts is anybody's guess."""
    if len(cookie) > _LONGEST:
        return b""
    named = [part.strip().partition(b"=")[2] for part in cookie.split(b";") if part.strip().startswith(NAME.encode() + b"=")]
    return named[0] if len(named) == 1 else b""
