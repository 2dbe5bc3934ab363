"""The server process: locked-down memory, TLS 1.3, the fast lane, and the few things that go by the clock."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import resource
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import uvicorn
import uvloop

from keyclave.app.config import Config, load
from keyclave.app.wiring import build, loop_hooks, mark_time
from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import Malformed, Unavailable
from keyclave.crypto.arena import lock_down
from keyclave.operations.desk import Desk
from keyclave.operations.table import OPERATIONS
from keyclave.operations.unseal import close_house
from keyclave.protocols.rest.asgi import application
from keyclave.protocols.rest.fastlane import FastLane
from keyclave.protocols.rest.gateway import Gateway
from keyclave.protocols.rest.refusals import Refusals
from keyclave.protocols.rest.routes import Routes
from keyclave.store.sqlite import SqliteStore

logger = logging.getLogger("keyclave")

_TIDY_SECONDS = 5
_MARK_SECONDS = 60
_NOTICEABLE = 1.0  # seconds: less is the ordinary slewing of a clock
_WORKERS = 4


def serve(home: Path, host: str | None, port: int | None) -> None:
    """Serve until a signal says to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    config = load(home)
    lock_down()
    alone = _only_server(home)  # noqa: F841 - held for the life of the process
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(_serve(config, home, host or config.listen.host, config.listen.port if port is None else port))


def _only_server(home: Path) -> IO[bytes]:
    """Lock the home: a second server would not see what the first one revokes."""
    file = (home / "server.lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Unavailable(f"another server serves {home}", "stop that one first") from None
    return file


async def _serve(config: Config, home: Path, host: str, port: int) -> None:
    if not config.listen.tls and host not in ("127.0.0.1", "::1", "localhost"):
        raise Malformed(f"tls is off and the address is {host}", "turn TLS on: only loopback may do without")
    later, on_loop = loop_hooks()
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="keyclave") as workers:
        desk, store = build(config, home, workers=workers, later=later, on_loop=on_loop)
        server = _server(config, home, host, port, desk)
        clockwork = asyncio.create_task(_by_the_clock(config, desk, store, server))
        gc.collect()
        gc.enable()
        gc.freeze()  # what start-up made lives as long as the process: the collector need not look at it again
        try:
            await server.serve()
        finally:
            clockwork.cancel()
            try:
                store.flush()
                close_house(desk)
            finally:
                store.close()


def _server(config: Config, home: Path, host: str, port: int, desk: Desk) -> uvicorn.Server:
    refusals = Refusals(desk)
    gateway = Gateway(desk, OPERATIONS, refusals.note)
    lane = type(
        "Lane",
        (FastLane,),
        {"gateway": gateway, "routes": Routes(OPERATIONS), "refusals": refusals, "most": config.listen.connections},
    )
    settings = uvicorn.Config(
        application(gateway, OPERATIONS),
        host=host,
        port=port,
        http=lane,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
        backlog=4096,
        ssl_context_factory=(lambda _config, _default: tls_context(config, home)) if config.listen.tls else None,
    )
    return uvicorn.Server(settings)


def tls_context(config: Config, home: Path) -> ssl.SSLContext:
    """Return TLS 1.3 with the server's certificate; nothing older is spoken (R1)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(home / config.listen.certificate, home / config.listen.key)
    except OSError as fault:
        raise Malformed(
            f"the server's certificate cannot be used: {fault.strerror or fault}", "see `listen` in keyclave.toml"
        ) from None
    return context


async def _by_the_clock(config: Config, desk: Desk, store: SqliteStore, server: uvicorn.Server) -> None:
    """Sign checkpoints, copy back the write-ahead log, close connections that dawdle, count refusals, notice the clock."""
    loop = asyncio.get_running_loop()
    next_tidy = 0.0
    next_mark = 0
    said_behind = False
    refusals: Any = server.config.http.refusals  # type: ignore[union-attr]
    while True:
        await asyncio.sleep(config.log.checkpoint_seconds)
        now = time.monotonic()
        try:
            refusals.tell()
            if desk.module.fault():
                _stop(desk, server)
            for connection in list(server.server_state.connections):
                if isinstance(connection, FastLane):
                    connection.sweep(now)
            said_behind = _look_at_clock(desk, said_behind=said_behind)
            desk.log.tick()
            shown = desk.clock.now()
            if shown >= next_mark:  # by the time that is shown: a jump of the clock is remembered at once
                mark_time(store, shown)
                next_mark = shown + _MARK_SECONDS * MICROSECONDS
        except Unavailable as fault:
            logger.error("no checkpoint: %s", fault.detail)
        except Exception:
            logger.exception("what goes by the clock failed, and is tried again")
        if now >= next_tidy:
            next_tidy = now + _TIDY_SECONDS
            await loop.run_in_executor(None, store.tidy)
            store.rewind()


def _stop(desk: Desk, server: uvicorn.Server) -> None:
    """Wipe every key and end: a module that failed its self-test computes for nobody."""
    logger.critical("the cryptographic module failed its self-test (%s): the server stops", desk.module.fault())
    try:
        close_house(desk)
    finally:
        server.should_exit = True


def _look_at_clock(desk: Desk, *, said_behind: bool) -> bool:
    behind = desk.clock.behind() / 1e6
    if behind > _NOTICEABLE and not said_behind:
        logger.warning(
            "the machine's clock was set back %.0f s: time goes on from the latest shown, and no expiry is put off", behind
        )
    return behind > _NOTICEABLE
