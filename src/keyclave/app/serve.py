"""The server process: locked-down memory, the desk and its store, the listeners, and how all of it begins and ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import uvloop

from keyclave.app.alone import alone
from keyclave.app.by_the_clock import ByTheClock
from keyclave.app.config import Config, check_listener, load
from keyclave.app.listeners import Listener, end, follow, listener, tls_context
from keyclave.app.newest import Newest
from keyclave.app.outside import Outside
from keyclave.app.part import Part, decode
from keyclave.app.settling import settle
from keyclave.app.sibling import Sibling
from keyclave.app.stores import AnyStore
from keyclave.app.unsealing import ask_peers, peers_context
from keyclave.app.wiring import build
from keyclave.console import application as console
from keyclave.core.errors import KeyclaveError, Malformed
from keyclave.crypto.locked_memory import end_with_parent, lock_down
from keyclave.identity.peer import Plane
from keyclave.operations.desk import Desk
from keyclave.operations.nodes.handing_rules import HandingOn
from keyclave.operations.sealing_reasons import Why
from keyclave.operations.table import OPERATIONS
from keyclave.operations.turns import THREADS
from keyclave.operations.unseal import close_house
from keyclave.protocols.rest.asgi import application
from keyclave.protocols.rest.gateway import Gateway
from keyclave.protocols.rest.refusals import Refusals
from keyclave.protocols.rest.visitors import Visitors
from keyclave.store import meta_rows
from keyclave.store.access import people
from keyclave.store.sqlite import SqliteStore
from keyclave.store.versions import CLUSTER

if TYPE_CHECKING:
    from keyclave.app.cluster import Cluster
    from keyclave.app.spooling import Spooling

logger = logging.getLogger("keyclave")

_SWITCH = 0.001  # seconds a worker keeps the interpreter while the loop wants it; a request asks for it a dozen times
_COLLECT = 5_000, 20, 20
"""How many objects are made until the collector looks at the young, and so on. With Python's own 700 it looks at the requests
that wait for a commit each time one is made, and finds them all alive: 2 to 4 % of an encryption at 64 connections."""


def serve(home: Path, host: str | None, port: int | None, workers: int | None = None) -> int:
    """Serve until a signal says to stop; return the exit code."""
    config = _prepare(home, host, port, workers)
    lock = alone(home)
    if config.listen.workers > 1:
        from keyclave.app.supervise import supervise

        named = [*(() if host is None else ("--host", host)), *(() if port is None else ("--port", str(port)))]
        return supervise(config, home, lock, named)
    uvloop.run(_serve(config, home))
    lock.close()
    return 0


def serve_part(home: Path, host: str | None, port: int | None, given: str) -> None:
    """Serve as one of several workers: `given` is what the supervisor says of this one."""
    part = decode(given)
    end_with_parent(part.parent)
    config = _prepare(home, host, port, part.count)
    uvloop.run(_serve(config, home, part))


def _prepare(home: Path, host: str | None, port: int | None, workers: int | None) -> Config:
    """Lock the process down; return the configuration with what the command line says in its stead."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    config = load(home)
    lock_down()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    named = {
        "host": host or config.listen.host,
        "port": config.listen.port if port is None else port,
        "workers": workers or config.listen.workers,
    }
    config = msgspec.structs.replace(config, listen=msgspec.structs.replace(config.listen, **named))
    check_listener(home, config.listen)
    sys.setswitchinterval(_SWITCH)
    return config


async def _serve(config: Config, home: Path, part: Part | None = None) -> None:
    with ThreadPoolExecutor(THREADS, thread_name_prefix="keyclave") as workers:
        shared = part is not None
        first = part is None or part.first
        desk, store = build(config, home, workers=workers, loop=asyncio.get_running_loop(), shared=shared, first=first)
        context = peers_context(config.nodes, home)
        refusals = Refusals(desk)
        listeners = _listeners(config, home, desk, refusals)
        _on_signals(listeners, desk, config.nodes.drain_seconds)
        cluster = _enter(config, store, desk)
        spooling = _open_spool(config, home, store, desk, cluster)
        outside = Outside(config, home, desk)
        outside.read_files()
        if part is not None:
            if cluster is None:  # on PostgreSQL each worker is a node, and nodes are counted
                desk.meters.live_nodes = lambda: config.listen.workers
            desk.why_sealed = Why.LOST if part.lost else desk.why_sealed
            await _join(part, desk, store, listeners)
        newest = Newest(home) if part is None or part.number == 0 else None
        clockwork = asyncio.create_task(ByTheClock(config, desk, store, refusals, listeners, newest).run())
        following = asyncio.create_task(outside.follow())
        asking = asyncio.create_task(ask_peers(config.nodes, context, desk))
        gc.set_threshold(*_COLLECT)
        gc.enable()
        gc.freeze()  # what start-up made lives as long as the process: the collector need not look at it again
        settling = asyncio.create_task(_settle(listeners, store))
        try:
            await _until_one_ends(listeners)
        finally:
            clockwork.cancel()
            following.cancel()
            settling.cancel()
            asking.cancel()
            desk.turns.close()
            try:
                store.flush()
                close_house(desk)
                if newest is not None:
                    newest.keep(desk.log.checkpoint)
            finally:
                if spooling is not None:
                    await asyncio.to_thread(spooling.close)
                if cluster is not None:
                    await asyncio.to_thread(cluster.leave)
                store.close()


async def _join(part: Part, desk: Desk, store: AnyStore, listeners: list[Listener]) -> None:
    """Become one of the workers; return when the others say that this one may serve."""
    for one, descriptor in zip(listeners, part.sockets, strict=True):
        one.inherited = [socket.socket(fileno=descriptor)]
    if part.number and isinstance(store, SqliteStore):  # the first one follows the log for all, and signs
        store.follow_when_asked()
        desk.log.skip = store.followed_by
    sibling = Sibling(socket.socket(fileno=part.channel), lambda: end(listeners))
    await sibling.join(desk, store)


def _enter(config: Config, store: AnyStore, desk: Desk) -> Cluster | None:
    """Take this process's place among the nodes of a database."""
    if isinstance(store, SqliteStore):
        return None
    from keyclave.app.cluster import Cluster
    from keyclave.app.cluster_threads.ground import Settings

    nodes = config.nodes
    where = nodes.address or f"{socket.gethostname()}:{config.listen.port}"
    stale_seconds = nodes.stale_seconds if nodes.stale_spool else 0.0
    settings = Settings(where[:256], nodes.lease_seconds, nodes.skew_seconds, config.log.checkpoint_seconds, stale_seconds)
    cluster = Cluster(store.address, store.node, settings)
    desk.membership = cluster.membership
    desk.handing_on = HandingOn(nodes.unseal_authority, frozenset(nodes.may_unseal))
    cluster.start(desk, asyncio.get_running_loop().call_later)
    return cluster


def _open_spool(config: Config, home: Path, store: AnyStore, desk: Desk, cluster: Cluster | None) -> Spooling | None:
    """Let this node decrypt while the database is away, with keys that allow it, if the configuration names a spool."""
    nodes = config.nodes
    if cluster is None or not nodes.stale_spool or isinstance(store, SqliteStore):
        return None
    from keyclave.app.spooling import SpoolSettings, open_spooling
    from keyclave.store.spool.folder import Folder

    owner = store.read(lambda conn: meta_rows.read_meta(conn, CLUSTER))
    if not owner:  # a spool of it could be placed in anybody's database
        raise Malformed("stale_spool: the database does not say which installation it is of", "leave stale_spool out")
    settings = SpoolSettings(nodes.stale_bytes, nodes.stale_seconds, owner.decode())
    return open_spooling(Folder(home / nodes.stale_spool), settings, store, desk, cluster)


def _listeners(config: Config, home: Path, desk: Desk, refusals: Refusals) -> list[Listener]:
    """Return one listener for both planes, or one for each. They are one server: what one revokes is gone on the other."""
    gateway = Gateway(desk, OPERATIONS, refusals.note)
    wanted = [(config.listen, Plane.BOTH if config.data is None else Plane.CONTROL)]
    wanted += [] if config.data is None else [(config.data, Plane.DATA)]
    made = []
    for listen, plane in wanted:
        context = tls_context(listen, home, plane) if listen.tls else None
        if context is not None:
            follow(context, desk)
        served = application(gateway, OPERATIONS, plane)
        if plane is not Plane.DATA:  # people have no business where keys are only used
            served.mount(console.PLACE, console.application(desk, Visitors(gateway)))
        made.append(listener(listen, plane, gateway, served, refusals, context))
    return made


def _on_signals(listeners: list[Listener], desk: Desk, drain_seconds: float) -> None:
    """Let SIGINT and SIGTERM end every listener; a second SIGINT does not wait for connections.

    SIGTERM first has the node say that it is not ready, for as long as its balancer needs to notice; a second one ends it.
    """
    loop = asyncio.get_running_loop()

    def drain() -> None:
        if desk.draining or not drain_seconds:
            end(listeners, signal.SIGTERM)
            return
        desk.draining = True
        logger.info("draining for %s s", drain_seconds)
        loop.call_later(drain_seconds, end, listeners, signal.SIGTERM)

    loop.add_signal_handler(signal.SIGINT, end, listeners, signal.SIGINT)
    loop.add_signal_handler(signal.SIGTERM, drain)


async def _until_one_ends(listeners: list[Listener]) -> None:
    """Serve until a listener ends, then end the others: half a server would look like a whole one."""
    tasks = [asyncio.create_task(one.serve(one.inherited)) for one in listeners]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        end(listeners)
        await asyncio.gather(*tasks)


async def _settle(listeners: list[Listener], store: AnyStore) -> None:
    """Once every listener answers, import on another thread what they left out; the collector need not look at that either.

    Where nobody has ever enrolled, nobody logs in: it would be 8 MB for nothing.
    """
    for one in listeners:
        await one.up.wait()
    try:
        needed = store.read(people.anybody_logs_in)
    except KeyclaveError:  # a database that is away for a moment: whoever logs in may be in it
        needed = True
    if needed:
        await asyncio.get_running_loop().run_in_executor(None, settle)
        gc.freeze()
