"""The session's cookie: no script reads it; it goes to this host alone, over TLS alone, with no request of another site."""

from __future__ import annotations

from keyclave.operations.people.sessions import SessionAnswer

SIGN_ON = "__Host-keyclave-sign-on"  # of a browser that is away at a provider
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
    """Return the session's token in a Cookie header, or no bytes."""
    return _value(cookie, NAME)


def sign_on_cookie(ceremony: str, seconds: int) -> str:
    """Return the Set-Cookie value that binds a sign-on to this browser. It is Lax: the answer comes from the provider's site."""
    return f"{SIGN_ON}={ceremony}; Max-Age={seconds}; Path=/; Secure; HttpOnly; SameSite=Lax"


def no_sign_on_cookie() -> str:
    """Return the Set-Cookie value that ends a sign-on in this browser."""
    return f"{SIGN_ON}=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax"


def sign_on_in(cookie: bytes) -> str:
    """Return the ceremony of a sign-on in a Cookie header, or nothing."""
    return _value(cookie, SIGN_ON).decode("ascii", "replace")


def _value(cookie: bytes, name: str) -> bytes:
    """Return a cookie's value. Two of the name are none: which counts is anybody's guess."""
    if len(cookie) > _LONGEST:
        return b""
    begin = name.encode() + b"="
    named = [part.strip().partition(b"=")[2] for part in cookie.split(b";") if part.strip().startswith(begin)]
    return named[0] if len(named) == 1 else b""
