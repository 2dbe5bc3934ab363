"""What of a request's head decides where it ends and what it names: one reading only, whoever stands in front.

A proxy that understands a head otherwise than the server does lets strangers speak in its name (request smuggling). So what
can be read in two ways is refused, although HTTP would allow some of it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence, Sized
from urllib.parse import unquote

from uvicorn.protocols.http.flow_control import FlowControl

from keyclave.core.errors import Malformed

_VERSIONS = ("1.0", "1.1")
_DISGUISED = re.compile(rb"%(?:2[DdEe]|3\d|4[1-9A-Fa-f]|5[\dAaFf]|6[1-9A-Fa-f]|7[\dAaEe])")  # letters, digits and - . _ ~
_IN_NAMES = re.compile("%(?=2[Ff]|[01][0-9A-Fa-f]|7[Ff])")  # slashes and control characters


def check_head(version: str, url: bytes, headers: Sequence[tuple[bytes, bytes]], *, upgrade: bool) -> None:
    """Refuse (`Malformed`) a head of which it is not certain where the request ends, or what it asks for (RFC 9112, 3.2, 6).

    `upgrade`: the client asks for another protocol. It gets HTTP, as it may (RFC 9110, 7.8); but the parser takes what comes
    behind such a head for that protocol, so it has no body to bring.
    """
    if version not in _VERSIONS:
        raise Malformed(f"the request is HTTP/{version[:8]}", "speak HTTP/1.1 here")
    hosts = lengths = 0
    coding = None
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            lengths += value != b"0"
        elif name == b"transfer-encoding":
            if coding is not None or version == "1.0" or value.lower() != b"chunked":
                raise Malformed("the request's Transfer-Encoding is not `chunked`", "send the body with its Content-Length")
            coding = value
    if hosts != 1 and (hosts or version != "1.0"):
        raise Malformed("the request does not name one host", "send the Host header once")
    if upgrade and (lengths or coding is not None):
        raise Malformed("the request asks for another protocol and has a body", "leave out the headers Upgrade and Connection")
    if b"%" in url and _DISGUISED.search(url.partition(b"?")[0]):
        raise Malformed("the path spells plain characters by their numbers", "write letters, digits and - . _ ~ as they are")


def decoded(raw: bytes) -> str:
    """Return a path, decoded but for slashes and control characters: one inside a name ends neither the name nor the path."""
    return unquote(_IN_NAMES.sub("%25", raw.decode("ascii")))


class OneWay(FlowControl):
    """Takes nothing more from whoever does not take what they are sent, nor while requests queue: both would fill the memory."""

    def __init__(self, transport: asyncio.Transport, queue: Sized) -> None:
        super().__init__(transport)
        self._queue = queue  # of requests that wait for the answers to those before them

    def resume_reading(self) -> None:
        """Read on, unless something waits here or over there."""
        if not self.write_paused and not self._queue:
            super().resume_reading()

    def pause_writing(self) -> None:
        """The other end does not read as fast as it asks."""
        super().pause_writing()
        self.pause_reading()

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        self.resume_reading()
