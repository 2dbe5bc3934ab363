"""Requests and answers over HTTPS: TLS 1.3, kept-alive connections, bounded retry. The token goes into one header only.

Only calls that may be done twice are repeated: those that read or leave nothing but a record, and those with an Idempotency-Key,
where the server answers the second with the outcome of the first. They are repeated when

- the connection was refused, or broke while we waited;
- the answer was 503, unless it says `sealed`: only people can change that, so the caller hears it at once;
- the answer was 502, which proxies give for a server whose connection broke.

Never repeated: a timeout (the server is slow; more requests make it slower) and anything else.
"""

from __future__ import annotations

import json
import os
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import SplitResult, urlsplit

from keyclave_client.errors import KeyclaveError, Malformed, Unreachable, from_answer
from keyclave_client.forking import forget_in_children

if TYPE_CHECKING:
    import httpx

ATTEMPTS = 4
FIRST_WAIT = 0.1  # seconds; doubles, and each wait is drawn between nothing and that, so that a crowd of clients spreads out
LONGEST_WAIT = 2.0  # seconds, also for a Retry-After
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_OK = 400
_FOR_NOW = (502, 503)


class Request(NamedTuple):
    """One request. `repeatable`: doing it twice harms nothing. `idempotency_key`: the server makes sure of that itself."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str] | None = None
    repeatable: bool = False
    idempotency_key: str | None = None
    if_match: int | None = None


class Answer(NamedTuple):
    """What came back, whole."""

    status: int
    content: bytes
    retry_after: str | None


class _Failure(NamedTuple):
    """What an attempt met instead, and whether to try again."""

    error: KeyclaveError
    again: bool
    retry_after: str | None


class Transport:
    """Sends requests to one server. Threads may share it, and so may forked processes: each has connections of its own.

    It connects at the first call, not before.
    """

    def __init__(
        self,
        url: str,
        token: str | Callable[[], str] | None,
        ca_file: str | None,
        timeout: float,
        wait: Callable[[float], None] = time.sleep,
        approval: str | None = None,
        *,
        certificate: tuple[str, str] | None = None,
        purpose: str | None = None,
    ) -> None:
        parts = _address(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise Malformed("the address is not https", "write https://host:port (plain http only to this machine itself)")
        if not parts.hostname or parts.username or parts.query or parts.fragment:
            raise Malformed("the address is not one of a server", "write https://host:port and give the token separately")
        self.url = url.rstrip("/")
        if purpose is not None and not (purpose.isascii() and purpose.isprintable()):
            raise Malformed("the purpose of use is not plain text", "name one of those in spec/grants.md")
        self._purpose = purpose
        self._token = _checked(token) if token is None or isinstance(token, str) else lambda: _checked(token())
        if ca_file is not None:
            _tls(ca_file, None)  # tried now: whoever made the client hears it, and not whoever first uses it
        self._ca_file = ca_file
        self._certificate = certificate
        self._shown: tuple[int, ...] = ()  # when the certificate's files were written that the open connections have shown
        self._timeout = timeout
        self._wait = wait
        self._approval = approval
        self._lock = threading.Lock()
        self._line: _Line | None = None
        forget_in_children(self)

    def __repr__(self) -> str:
        return f"Transport({self.url!r})"

    def json(self, request: Request) -> Any:
        """Send, and return the decoded JSON of the answer; an error answer is raised as its `KeyclaveError`."""
        answer = self.send(request)
        body = _parsed(answer.content)
        if body is None:
            raise from_answer(None, answer.status)
        return body

    def health(self) -> str:
        """Return what /v1/health says; its 503 is an answer here, not an error, and is not repeated."""
        answer, problem, _ = self._exchange(Request("GET", "/v1/health"))
        body = _parsed(answer.content) if answer else None
        said = body.get("status") if isinstance(body, dict) else None
        if isinstance(said, str):
            return said
        if answer is not None:
            raise from_answer(body, answer.status)
        raise self._unreachable(problem, None)

    def send(self, request: Request) -> Answer:
        """Send, repeat where that is safe, and return the first answer under 400; raise what the last attempt met."""
        attempt = 0
        while True:
            attempt += 1
            got = self._attempt(request)
            if isinstance(got, Answer):
                return got
            if not got.again or attempt == ATTEMPTS:
                raise got.error
            self._wait(_pause(attempt, got.retry_after))

    def _attempt(self, request: Request) -> Answer | _Failure:
        answer, problem, again = self._exchange(request)
        safe = request.repeatable or request.idempotency_key is not None
        if answer is None:
            return _Failure(self._unreachable(problem, request.idempotency_key), safe and again, None)
        if answer.status < _OK:
            return answer
        error = from_answer(_parsed(answer.content), answer.status)
        return _Failure(error, safe and answer.status in _FOR_NOW and error.code != "sealed", answer.retry_after)

    def _unreachable(self, problem: str, idempotency_key: str | None) -> Unreachable:
        """Return the error, made outside any `except`: an httpx error carries the request, and with it the token."""
        hint = "check the address, the CA file and that the server runs"
        return Unreachable(f"{self.url} does not answer ({problem})", hint, idempotency_key=idempotency_key)

    def _exchange(self, request: Request) -> tuple[Answer | None, str, bool]:
        """Try once: the answer, or what was wrong and whether trying again could help."""
        import httpx  # here, not above: a tenth of a second that `keyclave --help` need not pay

        content = None if request.body is None else json.dumps(request.body, separators=(",", ":")).encode()
        try:
            with self._connected() as http:
                got = http.request(
                    request.method, self.url + request.path, params=request.query, content=content, headers=self._headers(request)
                )
        except httpx.ConnectTimeout:
            return None, "it takes no connection in time", False
        except httpx.ConnectError as error:
            return None, _reason(error), isinstance(_cause(error), ConnectionError)
        except httpx.TimeoutException:
            return None, "it takes longer than the timeout", False
        except httpx.TransportError:
            return None, "the connection broke", True
        return Answer(got.status_code, got.content, got.headers.get("retry-after")), "", False

    def _headers(self, request: Request) -> dict[str, str]:
        headers = {}
        if self._token is not None:
            headers["authorization"] = "Bearer " + (self._token if isinstance(self._token, str) else self._token())
        if self._purpose is not None:
            headers["keyclave-purpose"] = self._purpose
        if request.body is not None:
            headers["content-type"] = "application/json"
        if request.idempotency_key is not None:
            headers["idempotency-key"] = request.idempotency_key
        if self._approval is not None and request.method != "GET":
            headers["keyclave-approval"] = self._approval
        if request.if_match is not None:
            headers["if-match"] = f'"{request.if_match}"'
        return headers

    @contextmanager
    def _connected(self) -> Iterator[httpx.Client]:
        """Lend the connections for one request. Whoever wants them closed meanwhile waits for nobody: the last user closes."""
        with self._lock:
            written = _written(self._certificate)
            if self._line is not None and written != self._shown:  # renewed: the next request shows the new one
                self._retire()
            if self._line is None:
                self._shown, self._line = written, _Line(self._opened())
            line = self._line
            line.users += 1
        try:
            yield line.http
        finally:
            with self._lock:
                line.users -= 1
                unused = line.retired and not line.users
            if unused:
                line.http.close()

    def _opened(self) -> httpx.Client:
        import httpx

        # trust_env=False: the environment must not send key traffic through a proxy or take the token from a netrc
        return httpx.Client(
            verify=_tls(self._ca_file, self._certificate), timeout=self._timeout, trust_env=False, follow_redirects=False
        )

    def _retire(self) -> None:
        """Use these connections for nothing new. Closed under another thread's request, that one's answer would be lost."""
        line, self._line = self._line, None
        if line is not None:
            line.retired = True
            if not line.users:
                line.http.close()

    def close(self) -> None:
        """Close the connections, once what is under way is answered; a later call opens new ones."""
        with self._lock:
            self._retire()

    def forget(self) -> None:
        """In a forked process: leave the connections to the one that opened them. Nothing is said on them, not even goodbye."""
        self._lock = threading.Lock()
        self._line = None


class _Line:
    """Open connections, and how many requests use them."""

    __slots__ = ("http", "retired", "users")

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        self.users = 0
        self.retired = False


def _address(url: str) -> SplitResult:
    """Return the parts of an address whose host and port can be ones."""
    try:
        parts = urlsplit(url)
        possible = url.isprintable() and " " not in url and parts.port != 0
        (parts.hostname or "").encode("idna")  # as the name is looked up: no part of it may be empty or too long
    except ValueError:
        possible = False
    if not possible:
        raise Malformed(
            "the address is not one of a server", "write https://host:port, and an IPv6 address as https://[::1]:port"
        )
    return parts


_Token = TypeVar("_Token", str, str | None)


def _checked(token: _Token) -> _Token:
    """Return a token that a header can hold."""
    if token is not None and not (token and token.isascii() and token.isprintable() and " " not in token):
        raise Malformed("the token is not one", "give the token and nothing else: no line end, no quotes, no spaces")
    return token


def _tls(ca_file: str | None, certificate: tuple[str, str] | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise Malformed(f"{ca_file} holds no certificate", "name the PEM file of the authority, such as tls/ca.pem") from None
    except (OSError, ValueError) as error:
        said = (error.strerror if isinstance(error, OSError) else None) or "no name of a file"
        raise Malformed(f"{ca_file}: {said}", "name the PEM file of the authority, such as tls/ca.pem") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if certificate is not None:
        try:
            context.load_cert_chain(*certificate, password="")  # a passphrase must not be asked for on whatever terminal there is
        except ssl.SSLError:
            raise Malformed(
                f"{certificate[0]} and {certificate[1]} are not a certificate and its key, or that is under a passphrase",
                "name the PEM files of one certificate and its bare key",
            ) from None
        except (OSError, ValueError) as error:
            raise _unreadable(certificate, error) from None
    return context


def _written(certificate: tuple[str, str] | None) -> tuple[int, ...]:
    """Return when the files of a client certificate were written."""
    if certificate is None:
        return ()
    try:
        return tuple(os.stat(path).st_mtime_ns for path in certificate)
    except (OSError, ValueError) as error:
        raise _unreadable(certificate, error) from None


def _unreadable(certificate: tuple[str, str], error: OSError | ValueError) -> Malformed:
    said = (error.strerror if isinstance(error, OSError) else None) or "no name of a file"
    return Malformed(f"{' or '.join(certificate)}: {said}", "name the PEM files of the client certificate and of its key")


def _parsed(content: bytes) -> Any:
    """Return the JSON value of an answer; None for what is none, or is nested to exhaust the parser."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _cause(error: BaseException) -> BaseException | None:
    """Return the operating system's error at the bottom of a chain."""
    below: BaseException | None = error
    while below is not None and not isinstance(below, OSError):
        below = below.__cause__ or below.__context__
    return below


def _reason(error: BaseException) -> str:
    below = _cause(error)
    if isinstance(below, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {below.verify_message}"
    if isinstance(below, ssl.SSLError):
        return f"no TLS 1.3 with it: {below.reason}"
    return (below.strerror if isinstance(below, OSError) else None) or "no connection"


def _pause(attempt: int, retry_after: str | None) -> float:
    if retry_after is not None and retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after), LONGEST_WAIT)
    return random.uniform(0, min(FIRST_WAIT * 2**attempt, LONGEST_WAIT))  # noqa: S311 - spreads load, guards nothing
