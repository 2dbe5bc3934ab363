"""Three whole servers on one PostgreSQL: each a process with a home of its own, made by one ceremony."""

from __future__ import annotations

import dataclasses
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.live import Live, free_port, init, start, wait_until_up
from tests.postgres import Database
from tests.waiting import until


class Several:
    """The nodes, and what is asked of them all."""

    def __init__(self, nodes: list[Live], database: Database) -> None:
        self.nodes = nodes
        self.database = database

    def rows(self) -> list[dict[str, Any]]:
        """Return the list of nodes, as an auditor gets it."""
        answer = self.nodes[0].get("/v1/nodes", "auditor")
        assert answer.status_code == 200, answer.text
        return list(answer.json()["nodes"])

    def sequencer(self) -> Live:
        """Return the node that places events."""
        found: list[Live] = []

        def known() -> bool:
            holder = next((row["address"] for row in self.rows() if row["sequencer"]), "")
            found[:] = [node for node in self.nodes if holder.endswith(f":{node.port}")]
            return bool(found)

        until(known, "there is no sequencer")
        return found[0]


def is_ready(node: Live) -> bool:
    """Tell whether a node says that it is ready."""
    try:
        return node.http.get("/v1/health/ready", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def several(
    folder: Path,
    database: Database,
    count: int = 3,
    configure: Callable[[str, list[int]], str] = lambda text, ports: text,
    unsealed: int | None = None,
    prepare: Callable[[int, Path], None] = lambda number, home: None,
) -> Iterator[Several]:
    """Hold the ceremony, give each node a copy of the home with a port of its own, start and unseal them (the first `unsealed`).

    `configure` gets what the ceremony wrote into keyclave.toml and the nodes' ports, and returns what is to stand there; `prepare`
    gets each node's number and home before it is started.
    """
    first = folder / "n0"
    ports = [free_port() for _ in range(count)]
    made = init(first, ports[0], "--store", database.url(), "--development")
    (first / "root.development").unlink()
    path = first / "keyclave.toml"
    path.write_text(configure(path.read_text(), ports))
    nodes: list[Live] = []
    try:
        for number, here in enumerate(ports):
            home = folder / f"n{number}"
            if number:
                shutil.copytree(first, home, ignore=shutil.ignore_patterns("server.lock"))
            prepare(number, home)
            nodes.append(_started(home, here, made))
        for node in nodes[:unsealed]:
            node.unseal()
        for node in nodes[:unsealed]:
            until(lambda node=node: is_ready(node), "a node is not ready")
        yield Several(nodes, database)
    finally:
        for node in nodes:
            node.process.send_signal(signal.SIGCONT)  # one that is frozen cannot end
            node.stop()


def _started(home: Path, port: int, made: dict[str, Any]) -> Live:
    from ssl import create_default_context

    url = made["url"].rsplit(":", 1)[0] + f":{port}"
    process = start(home, port)
    http = httpx.Client(base_url=url, verify=create_default_context(cafile=made["ca_file"]), timeout=30)
    live = Live(
        home=home, port=port, url=url, ca_file=made["ca_file"], origin=made["origin"], shares=made["shares"],
        tokens=made["credentials"], process=process, http=http,
    )  # fmt: skip
    wait_until_up(url, made["ca_file"], process)
    return live


def again(node: Live) -> Live:
    """Return the same node as another caller sees it: with a connection of its own."""
    from ssl import create_default_context

    http = httpx.Client(base_url=node.url, verify=create_default_context(cafile=node.ca_file), timeout=30)
    return dataclasses.replace(node, http=http)
