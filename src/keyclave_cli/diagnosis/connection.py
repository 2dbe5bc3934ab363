"""What the connection itself shows: that somebody answers, over TLS 1.3 and nothing older, with a certificate that is
trusted and not about to expire, and whose clock agrees with ours.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import SplitResult, urlsplit

from keyclave_cli.diagnosis.finding import Finding, fail, ok, skipped, warn
from keyclave_cli.session import Connection

_CERTIFICATE_DAYS = 14
_SKEW_NOTICED = 5  # seconds; a Date header has whole ones
_SKEW_HARMFUL = 60
_DAY = 86_400


def examine(connection: Connection, timeout: float) -> Iterator[Finding]:
    """Yield the findings; when nobody answers, the first one is the only one."""
    parts = urlsplit(connection.url)
    if parts.scheme == "http":
        yield warn("tls", "plain HTTP to this machine itself", "only for measuring: set `tls = true` in keyclave.toml")
        yield from _exchange(HTTPConnection(parts.hostname or "", _port(parts), timeout=timeout), connection)
        return
    try:
        context = ssl.create_default_context(cafile=connection.ca_file)
    except (OSError, ssl.SSLError) as error:
        yield fail(
            "ca",
            f"{connection.ca_file} is not a CA file ({error.strerror or error})",
            "give --ca-file with the server's tls/ca.pem",
        )
        return
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    yield from _exchange(HTTPSConnection(parts.hostname or "", _port(parts), timeout=timeout, context=context), connection)


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _exchange(http: HTTPConnection, connection: Connection) -> Iterator[Finding]:
    try:
        http.connect()
    except ssl.SSLCertVerificationError as error:
        said = f"its certificate is not trusted: {error.verify_message}"
        yield fail("ca", said, "give --ca-file with the server's tls/ca.pem, or ask for the right address")
        return
    except ssl.SSLError as error:
        yield fail("tls", f"no TLS 1.3 with it ({error.reason})", "is this a Keyclave server? check the address and the port")
        return
    except OSError as error:
        advice = "start it with `keyclave serve`, or correct the address"
        yield fail("reachable", f"{connection.url} does not answer ({error.strerror or error})", advice)
        return
    sock = http.sock
    certificate = sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None
    version = sock.version() if isinstance(sock, ssl.SSLSocket) else None
    try:
        before = time.time()
        http.request("GET", "/v1/health")
        answer = http.getresponse()
        answer.read()
        after = time.time()
    except (OSError, HTTPException) as error:
        yield fail("reachable", f"{connection.url} takes connections but does not answer ({error})", "look at the server's log")
        return
    finally:
        http.close()
    yield ok("reachable", f"{connection.url} answers in {(after - before) * 1000:.0f} ms")
    if version is not None:
        yield from _tls(http, version)
        yield _expiry(certificate or {})
    yield _clock(answer.headers.get("date"), before, after)


def _tls(http: HTTPConnection, version: str) -> Iterator[Finding]:
    """Say what was agreed on, and try to talk the server into less: nothing is checked but the handshake, and nothing is sent."""
    older = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    older.check_hostname = False
    older.verify_mode = ssl.CERT_NONE
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        with (
            socket.create_connection((http.host, http.port), timeout=http.timeout) as plain,
            older.wrap_socket(plain) as talked_down,
        ):
            said = f"{version}, but it also takes {talked_down.version()}"
            yield fail("tls", said, "something older stands between you and the server: let it pass TLS 1.3 through")
    except OSError:
        yield ok("tls", f"{version}, and nothing older")


def _expiry(certificate: object) -> Finding:
    until = certificate.get("notAfter") if isinstance(certificate, dict) else None
    if not isinstance(until, str):
        return skipped("certificate", "it states no end")
    days = (ssl.cert_time_to_seconds(until) - time.time()) / _DAY
    said = f"trusted, valid for {days:.0f} days"
    return ok("certificate", said) if days > _CERTIFICATE_DAYS else warn("certificate", said, "renew the server's certificate")


def _clock(date: str | None, before: float, after: float) -> Finding:
    """Compare the server's clock with ours; its Date has whole seconds and was written some time between `before` and `after`."""
    try:
        theirs = parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return skipped("clock", "the server states no time")
    skew = max(theirs - after, before - (theirs + 1), 0.0)
    direction = "ahead of" if theirs > after else "behind"
    advice = "set both clocks by NTP: expiries, rotations and the record's times depend on them"
    if skew >= _SKEW_HARMFUL:
        return fail("clock", f"the server is {skew:.0f} s {direction} this machine", advice)
    if skew >= _SKEW_NOTICED:
        return warn("clock", f"the server is {skew:.0f} s {direction} this machine", advice)
    return ok("clock", "server and machine agree")
