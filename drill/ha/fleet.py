"""Three servers on the ground's database: real processes of an account of their own, each hurt in its own way.

The second reaches the database through a wire that can be cut, the third lives under a clock that can be moved (drill/set_clock.py).
"""

from __future__ import annotations

import json
import shutil
import signal
import ssl
import subprocess
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from drill.ha.ground import NAMES, Ground
from drill.ha.members import LOOPBACK
from drill.ha.places import ROOT, free_ports
from drill.ha.process import Program, wait_for
from keyclave_client import Client
from keyclave_client.errors import KeyclaveError

OWNER, APP, DATABASE = "keyclave_owner", "keyclave_app", "keyclave"
LEASE_SECONDS = 1.0
_TOOLS = ("drill/ha/forwarder.py", "drill/set_clock.py")  # what runs as the account of the servers, besides the servers


@dataclass
class Node:
    """One server."""

    name: str
    url: str
    home: Path
    program: Program
    wire: Program | None
    clock: Path | None

    def move_clock(self, seconds: int) -> None:
        """Set its machine's clock off by so many seconds."""
        assert self.clock is not None
        part = self.clock.with_suffix(".part")
        part.write_text(str(seconds))
        part.chmod(0o644)
        part.replace(self.clock)

    def cut(self) -> None:
        """Cut its wire to the database."""
        assert self.wire is not None
        self.wire.send(signal.SIGSTOP)

    def mend(self) -> None:
        """Mend the wire."""
        assert self.wire is not None
        self.wire.send(signal.SIGCONT)


class Fleet:
    """The servers, and what their people hold. Use as a context on a running ground."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.nodes: list[Node] = []
        self._passwords = {OWNER: ground.passwords["superuser"] + "o", APP: ground.passwords["superuser"] + "a"}

    def __enter__(self) -> Fleet:
        try:
            self._prepare_database()
            self._lay()
            for node in self.nodes:
                self.start(node)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.program.end()
            if node.wire is not None:
                node.wire.end()

    # ---- laying -----------------------------------------------------------------------------------------------------------
    def _prepare_database(self) -> None:
        with psycopg.connect(self.ground.dsn(), autocommit=True) as connection:
            for role, password in self._passwords.items():
                connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
            connection.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")

    def _address(self, user: str, ports: list[int]) -> str:
        hosts = "&".join(f"host={LOOPBACK}:{port}" for port in ports)
        return f"postgresql://{user}@/{DATABASE}?{hosts}&sslmode=verify-full&sslrootcert={self.ground.ca_file}"

    def _lay(self) -> None:
        ground, account = self.ground, self.ground.nodes
        folder = account.folder(ground.folder / "nodes", 0o711)
        self._source = folder / "src"
        shutil.copytree(ROOT / "src", self._source, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (self._source, *self._source.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        for tool in _TOOLS:
            copy = Path(shutil.copy(ROOT / tool, folder))
            copy.chmod(0o644)
        direct = [ground.members[name].ports.postgres for name in NAMES]
        ports = free_ports(3 + len(direct))
        first = self._hold_ceremony(folder, ports[0], direct)
        for number in (2, 3):
            home = account.folder(folder / f"node{number}") / "home"
            subprocess.run(["cp", "-a", str(first), str(home)], check=True)
        for number, port in enumerate(ports[:3], 1):
            home = folder / f"node{number}" / "home"
            wire = self._wire(folder, dict(zip(ports[3:], direct, strict=True))) if number == 2 else None
            self._configure(home, port, ports[3:] if wire else direct)
            clock = account.file(home.parent / "clock", "0", 0o644) if number == 3 else None
            self.nodes.append(self._node(f"node{number}", port, home, wire, clock))

    def run(self, *words: str, secret: str = "") -> str:
        """Run one of the server's own programs to its end, as the account of the servers."""
        command = [str(self.ground.programs.node), "-m", "keyclave.app", *words]
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONPATH": str(self._source)}
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            command, env=environment, input=secret.encode(), capture_output=True, cwd="/", check=False,
            **self.ground.nodes.switch(),
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {(done.stdout + done.stderr).decode()[-800:]}")
        return done.stdout.decode()

    def _hold_ceremony(self, folder: Path, port: int, direct: list[int]) -> Path:
        account = self.ground.nodes
        home = account.folder(folder / "node1") / "home"
        files = {role: account.file(folder / "node1" / role, password) for role, password in self._passwords.items()}
        self.run("migrate", "--store", self._address(OWNER, direct), "--password-file", str(files[OWNER]))
        made = folder / "node1" / "made.json"
        self.run(
            "init", "--home", str(home), "--port", str(port), "--people", "tokens", "--out-json", str(made),
            "--store", self._address(APP, direct), "--password-file", str(files[APP]),
        )  # fmt: skip
        found = json.loads(made.read_text())
        self.shares: list[str] = found["shares"]
        self.tokens: dict[str, str] = found["credentials"]
        self.ca_file = str(self.ground.nodes.file(self.ground.folder / "nodes-ca.crt", Path(found["ca_file"]).read_text(), 0o644))
        return home

    def _configure(self, home: Path, port: int, ports: list[int]) -> None:
        path = home / "keyclave.toml"
        text = path.read_text()
        old = tomllib.loads(text)
        text = text.replace(old["store"]["url"], self._address(APP, ports))
        text = text.replace(f"port = {old['listen']['port']}", f"port = {port}")
        text = text.replace("[log]\n", "[log]\ncheckpoint_seconds = 0.2\n")
        self.ground.nodes.file(path, text + f"\n[nodes]\nlease_seconds = {LEASE_SECONDS}\n")

    def _wire(self, folder: Path, pairs: dict[int, int]) -> Program:
        command = [str(self.ground.programs.node), "-I", str(folder / "forwarder.py"), *(f"{a}:{b}" for a, b in pairs.items())]
        wire = Program("the wire", command, self.ground.nodes, folder / "wire.log")
        wire.start()
        return wire

    def _node(self, name: str, port: int, home: Path, wire: Program | None, clock: Path | None) -> Node:
        how = ["-m", "keyclave.app"] if clock is None else [str(home.parents[1] / "set_clock.py"), str(clock)]
        command = [str(self.ground.programs.node), *how, "serve", "--home", str(home)]
        environment = {"PYTHONPATH": str(self._source)}
        program = Program(name, command, self.ground.nodes, home.parent / "server.log", environment)
        return Node(name, f"https://{LOOPBACK}:{port}", home, program, wire, clock)

    # ---- running ----------------------------------------------------------------------------------------------------------
    def client(self, node: Node, token: str | None, timeout: float = 5.0) -> Client:
        """Return the client library on one node; `token` may be a role."""
        return Client(node.url, self.tokens.get(token or "", token), ca_file=self.ca_file, timeout=timeout)

    def start(self, node: Node) -> None:
        """Start a node and give it the custodians' shares."""
        node.program.start()
        wait_for(f"{node.name} answers; it said {node.program.said(300)!r}", lambda: self._answers(node), 90, 0.5)
        self.unseal(node)

    def _answers(self, node: Node) -> bool:
        if not node.program.runs:
            node.program.start()  # what ended for want of a database is started again, as its unit says
        return self.health(node) != ""

    def unseal(self, node: Node) -> None:
        """Give shares until it is open."""
        with self.client(node, None, 30) as client:
            for share in self.shares:
                if not client.unseal(share).sealed:
                    return

    def health(self, node: Node) -> str:
        """Return what a node says of itself; nothing if it does not answer."""
        context = ssl.create_default_context(cafile=self.ca_file)
        try:
            with urllib.request.urlopen(node.url + "/v1/health", context=context, timeout=2) as answer:
                return str(json.loads(answer.read())["status"])
        except urllib.error.HTTPError as refusal:
            return str(json.loads(refusal.read()).get("status", "refuses"))
        except OSError:
            return ""

    def serves(self, node: Node, token: str, key: str) -> bool:
        """Tell whether a node uses a key just now."""
        try:
            with self.client(node, token, 2) as client:
                client.encrypt(key, b"probe")
        except KeyclaveError:
            return False
        return True

    def give_spools(self, seconds: int) -> None:
        """Let every node decrypt for so long while the database is away, with keys that allow it; one after the other."""
        for node in self.nodes:
            path = node.home / "keyclave.toml"
            self.ground.nodes.file(path, path.read_text() + f'stale_spool = "spool"\nstale_seconds = {seconds}\n')
            node.program.end()
            self.start(node)

    def revive(self) -> None:
        """Start every node that does not run, as systemd does, and open it."""
        for node in self.nodes:
            if not node.program.runs:
                self.start(node)

    def sequencer(self) -> Node:
        """Return the node that gives events their places."""
        with psycopg.connect(self.ground.dsn(database=DATABASE), autocommit=True) as connection:
            row = connection.execute(
                "SELECT n.address FROM leases l JOIN nodes n ON n.id = l.holder WHERE l.name = 'sequencer'"
            ).fetchone()
        if row is None:
            raise RuntimeError("nobody is the sequencer")
        return next(node for node in self.nodes if node.url.endswith(str(row[0]).rpartition(":")[2]))

    def others(self, hurt: Node) -> Iterator[Node]:
        """Yield the nodes that are not hurt."""
        return (node for node in self.nodes if node is not hurt)

    def listed(self) -> list[dict[str, Any]]:
        """Return the rows of the nodes, from the database itself."""
        with psycopg.connect(self.ground.dsn(database=DATABASE), autocommit=True) as connection:
            found = connection.execute("SELECT row_to_json(nodes) FROM nodes ORDER BY started_at").fetchall()
        return [dict(row[0]) for row in found]
