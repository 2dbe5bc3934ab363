"""Nodes on PostgreSQL: one beside the peer on its own durable storage, two workers beside one, and how long a revocation takes.

A revocation is measured as its caller sees it, from the request to the answer, over TLS: durable, and applied by every node that
lives; or, with one node frozen, as long as that node could have gone on by itself.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench import ours, peer
from bench.database import database_server, new_database
from bench.load import Sample, Wrk
from bench.ours import KEY, Keyclave
from bench.peer import OpenBao
from bench.served import SMALL
from bench.table import Row, at_most, times
from bench.workers import scaling_rows
from tests.postgres import Server

CONNECTIONS = 64
NODES = 3
LEASE = 1.0  # seconds, as configured when nothing is said


@dataclass
class Nodes:
    """Samples of each contender, and the milliseconds of revocations."""

    one: list[Sample] = field(default_factory=list)
    two: list[Sample] = field(default_factory=list)
    peer: list[Sample] = field(default_factory=list)
    revoked: list[float] = field(default_factory=list)
    frozen: list[float] = field(default_factory=list)
    rss: float = 0.0


def measure(wrk: Wrk, folder: Path, program: Path, rounds: int, seconds: float, revocations: int) -> Nodes:
    """Measure everything, one thing after the other."""
    seen = Nodes()
    with database_server() as server:
        _rates(seen, wrk, folder, program, server, rounds, seconds)
        with _three(folder, server) as nodes:
            seen.revoked = _revocations(nodes[0], revocations)
            seen.frozen = _with_one_frozen(nodes)
    return seen


def _rates(seen: Nodes, wrk: Wrk, folder: Path, program: Path, server: Server, rounds: int, seconds: float) -> None:
    with ExitStack() as stack:
        homes = [_node(stack, folder, server, f"pg{workers}", workers) for workers in (1, 2)]
        certificate = homes[0].home / "tls" / "server.pem", homes[0].home / "tls" / "server.key"
        other = OpenBao(program, folder, certificate, tuned=True, storage="raft")
        stack.callback(other.stop)
        turns = [
            (homes[0].endpoint(), ours.encrypt(SMALL), seen.one),
            (other.endpoints()[0], peer.encrypt(SMALL), seen.peer),
            (homes[1].endpoint(), ours.encrypt(SMALL), seen.two),
        ]
        for number in range(rounds + 1):
            for endpoint, work, samples in turns:
                sample = wrk.run(endpoint, work, CONNECTIONS, seconds if number else 1)
                if number:  # the first round warms
                    samples.append(sample)
            other.truncate_audit()
        seen.rss = homes[0].rss_mib()


def _node(stack: ExitStack, folder: Path, server: Server, name: str, workers: int) -> Keyclave:
    home = Keyclave(folder, name, tls=False, workers=workers, store=new_database(server, name).url())
    stack.callback(home.stop)
    home.start()
    home.unseal()
    home.furnish()
    return home


@contextmanager
def _three(folder: Path, server: Server) -> Iterator[list[Keyclave]]:
    """Three nodes of one installation: copies of a home, each with a port of its own."""
    with ExitStack() as stack:
        first = Keyclave(folder, "n0", tls=True, store=new_database(server, "three").url())
        nodes = [first, *(first.copied(folder, f"n{number}") for number in range(1, NODES))]
        for node in nodes:
            stack.callback(node.stop)
            node.start()
            node.unseal()
            node.wait_until_ready()
        first.furnish()
        yield nodes


class _Caller:
    """A custodian and an operator with a connection that stays open, as a service has one."""

    def __init__(self, node: Keyclave) -> None:
        trust = ssl.create_default_context(cafile=node.ca_file)
        self._connection = http.client.HTTPSConnection("localhost", node.port, context=trust, timeout=30)
        self._tokens = node.made["credentials"]

    def post(self, path: str, who: str) -> float:
        """POST, insist on success, and return the milliseconds that it took."""
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._tokens[who]}"}
        began = time.perf_counter()
        self._connection.request("POST", path, json.dumps({"reason": "measured"}), headers)
        answer = self._connection.getresponse()
        body: Any = answer.read()
        took = time.perf_counter() - began
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {body!r}")
        return took * 1000


def _revocations(node: Keyclave, count: int) -> list[float]:
    caller, seen = _Caller(node), []
    for number in range(count + 5):
        took = caller.post(f"/v1/keys/{KEY}/suspend", "custodian")
        caller.post(f"/v1/keys/{KEY}/resume", "operator")
        if number >= 5:  # the first ones warm
            seen.append(took)
    return seen


def _with_one_frozen(nodes: list[Keyclave]) -> list[float]:
    """Suspend with the last node stopped just before, five times; each time it goes on and is ready again afterwards."""
    caller, seen = _Caller(nodes[0]), []
    for _ in range(5):
        os.kill(nodes[-1].pid, signal.SIGSTOP)
        try:
            seen.append(caller.post(f"/v1/keys/{KEY}/suspend", "custodian"))
        finally:
            os.kill(nodes[-1].pid, signal.SIGCONT)
        nodes[-1].wait_until_ready()
        caller.post(f"/v1/keys/{KEY}/resume", "operator")
    return seen


def rows(seen: Nodes, rounds: int, seconds: float) -> list[Row]:
    """Return the rates and the revocations, held against their targets."""
    rate, other = (median(sample.requests_per_second for sample in samples) for samples in (seen.one, seen.peer))
    where = "PostgreSQL on the same disk and cores, its commits synchronous"
    how = f"encrypt 64 B, {CONNECTIONS} connections, no TLS, wrk -t1 on the same machine, medians of {rounds} rounds of {seconds:g} s"
    p99 = median(sample.p99 for sample in seen.one), median(sample.p99 for sample in seen.peer)
    beside = f"{how}, taking turns; one node, {where}; peer = OpenBao, tuned, raft storage, file audit; p99 {p99[0]:.1f} and {p99[1]:.1f} ms"
    count, percentiles = len(seen.revoked), quantiles(seen.revoked, n=100)
    revoked = (
        f"`suspend` over TLS until answered, {NODES} healthy nodes and {where}, {count} times; longest {max(seen.revoked):.1f} ms"
    )
    frozen = (
        f"the same with one of {NODES} nodes stopped by SIGSTOP just before; longest of {len(seen.frozen)}, lease {LEASE:g} s"
    )
    return [
        Row("encrypt_64B_c64_postgresql", rate, "requests/s", beside, other, times(2.5)),
        *scaling_rows("_postgresql", seen.one, seen.two, f"{how}, taking turns; {where}; each worker is a node"),
        Row("revoke_p50_ms", median(seen.revoked), "ms", revoked, target=at_most(10)),
        Row("revoke_p99_ms", percentiles[98], "ms", revoked, target=at_most(50)),
        Row("revoke_one_frozen_ms", max(seen.frozen), "ms", frozen, target=at_most(1000 * (LEASE + 0.3))),
        Row("rss_MiB_postgresql", seen.rss, "MiB", "one node after these loads", target=at_most(160e6 / 2**20)),
    ]
