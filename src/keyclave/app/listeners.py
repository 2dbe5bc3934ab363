"""The listeners: TLS 1.3 with client certificates, session resumption, and one plane each. They share one desk and one loop.

A resumed session has no handshake of its own, yet the client is known by the certificate of the first one (it is in the ticket,
which only this process can open); expiry and revocation are looked at for each request, so resuming brings nothing back.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import Generator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette

from keyclave.app.config import Listen
from keyclave.app.door import Door, bind
from keyclave.core.errors import Malformed
from keyclave.identity.peer import Plane
from keyclave.identity.proxies import ProxyRule, read_networks
from keyclave.operations.desk import Desk
from keyclave.operations.table import OPERATIONS
from keyclave.protocols.rest.answering import IDLE_SECONDS
from keyclave.protocols.rest.arrivals import Arrivals
from keyclave.protocols.rest.departures import Departures
from keyclave.protocols.rest.fastlane import FastLane
from keyclave.protocols.rest.gateway import Gateway
from keyclave.protocols.rest.refusals import Refusals
from keyclave.protocols.rest.routes import Routes

_ROOMY, _CROWDED = 0.5, 0.9  # of the connections that may be kept open
_LEAST_IDLE = 5.0  # seconds
_DER = 2  # _ssl.ENCODING_DER
_VERIFY = {"off": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class Direct(ssl.SSLObject):
    """TLS of one connection, read and written without the calls that Python's class puts around each: 2 to 3 % of a request.

    The event loop asks for the three once a connection, and calls them by position, as the ones inside are.
    """

    read = property(lambda self: self._sslobj.read)
    write = property(lambda self: self._sslobj.write)
    pending = property(lambda self: self._sslobj.pending)


class Listener(uvicorn.Server):
    """One address and port. Signals are the process's business, not a listener's. `up` is set once it answers."""

    inherited: list[socket.socket] | None = None  # what a worker listens on: its supervisor has bound it

    def __init__(self, config: uvicorn.Config, connections: int) -> None:
        super().__init__(config)
        self._connections = connections
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port."""
        bound = sockets or bind(self.config.host, self.config.port)
        protocol: Any = self.config.http_protocol_class

        def made() -> asyncio.Protocol:
            return protocol(config=self.config, server_state=self.server_state, app_state={})  # type: ignore[no-any-return]

        self.servers = [Door(one, made, self.config.ssl, self._connections) for one in bound]  # type: ignore[misc]
        if sockets is None:
            self._log_started_message(bound)
        self.started = True
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Take no signal."""
        yield

    def sweep(self, now: float) -> None:
        """Close connections that dawdle: the fuller it is, the sooner those that ask nothing go.

        So whoever fills the house with connections and asks nothing has to make them anew faster than handshakes go.
        """
        connections = list(self.server_state.connections)
        room = 1 - (len(connections) / self._connections - _ROOMY) / (_CROWDED - _ROOMY)
        idle = _LEAST_IDLE + (IDLE_SECONDS - _LEAST_IDLE) * min(max(room, 0.0), 1.0)
        for connection in connections:
            if isinstance(connection, FastLane):
                connection.sweep(now, idle)


class Lane(FastLane):
    """A connection whose client certificate is known."""

    def certificates(self, transport: asyncio.Transport) -> tuple[bytes | None, tuple[bytes, ...]]:
        """Return the client's certificate, and those above it where the handshake was a full one (DER)."""
        tls: Any = transport.get_extra_info("ssl_object")
        leaf: bytes | None = None if tls is None else tls.getpeercert(True)
        if leaf is None or tls.session_reused:
            return leaf, ()
        chain = tls._sslobj.get_verified_chain() or []  # public from Python 3.13 on
        return leaf, tuple(one.public_bytes(_DER) for one in chain[1:])


def listener(
    listen: Listen,
    plane: Plane,
    gateway: Gateway,
    served: Starlette,
    refusals: Refusals,
    context: ssl.SSLContext | None,
) -> Listener:
    """Return a listener for one plane, not started yet."""
    lane = type(
        "PlaneLane",
        (Lane,),
        {
            "gateway": gateway,
            "routes": Routes(OPERATIONS),
            "refusals": refusals,
            "most": listen.connections,
            "plane": plane,
            "proxies": _proxies(listen),
            "begun": {},
            "begun_with": [],
            "arrivals": Arrivals(),
            "departures": None if context is None else Departures(),
        },
    )
    settings = uvicorn.Config(
        served,
        host=listen.host,
        port=listen.port,
        http=lane,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
        ssl_context_factory=(lambda _config, _default: context) if context is not None else None,
    )
    return Listener(settings, listen.connections)


def _proxies(listen: Listen) -> ProxyRule | None:
    if not listen.trusted_proxies:
        return None
    return ProxyRule(
        networks=read_networks(listen.trusted_proxies),
        names=frozenset(listen.proxy_names),
        by_address=listen.proxy_by_address,
        header=listen.proxy_header,
    )


def tls_context(listen: Listen, home: Path, plane: Plane) -> ssl.SSLContext:
    """Return TLS 1.3 with the server's certificate; nothing older is spoken (R1)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.sslobject_class = Direct
    try:
        context.load_cert_chain(home / listen.certificate, home / listen.key)
    except OSError as fault:
        raise Malformed(
            f"the server's certificate cannot be used: {fault.strerror or fault}", "see `listen` in keyclave.toml"
        ) from None
    context.num_tickets = 1  # a client resumes with the newest: each further one costs both sides for nothing
    context.verify_mode = _VERIFY[listen.client_certificates or ("off" if plane is Plane.CONTROL else "optional")]
    # a bundle may hold the authority that signs without the one above it: what is in a bundle is believed as it is
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def follow(context: ssl.SSLContext, desk: Desk) -> None:
    """Have client certificates verified against the authorities known now, and against each that is made later.

    What TLS lets in under one authority is looked at again by name under that one alone.
    """
    if context.verify_mode is ssl.CERT_NONE:
        return

    def trust(anchors: list[bytes]) -> None:
        if anchors:
            context.load_verify_locations(cadata=b"".join(anchors))

    desk.callers.certified.watch(trust)


def end(listeners: list[Listener], number: int = 0) -> None:
    """Let listeners end, for a signal or of the server's own accord; a second SIGINT does not wait for connections."""
    for one in listeners:
        one.force_exit = one.should_exit and number == signal.SIGINT
        one.should_exit = True
