"""What a run of the ground needs of the machine: the programs, the accounts they run as, free ports, and a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drill.ha.process import Account

ROOT = Path(__file__).resolve().parents[2]
NODE_ACCOUNT = "keyclave-drill"  # made by scripts/setup ha; may read nothing of the database's account and the other way round


class Missing(Exception):
    """Something that scripts/setup ha installs is not there."""


@dataclass(frozen=True)
class Programs:
    """Where the programs are. Interpreters must be readable by the accounts that run them, so root's lie below /opt."""

    patroni: Path
    python: Path  # that has Patroni's packages
    node: Path  # the interpreter of the servers
    postgres: Path  # folder of the database's programs

    @classmethod
    def find(cls) -> Programs:
        """Look for them where scripts/setup ha puts them."""
        top = Path("/opt/keyclave-drill") if os.geteuid() == 0 else ROOT
        patroni = top / ("patroni" if os.geteuid() == 0 else ".venv-ha")
        node = top / ("node" if os.geteuid() == 0 else ".venv")
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
        found = cls(patroni / "bin/patroni", patroni / "bin/python", node / "bin/python", (versions or [Path("/nowhere")])[-1])
        for path in (found.patroni, found.node, found.postgres / "initdb"):
            if not path.exists():
                raise Missing(f"{path} is not there; run scripts/setup ha")
        if shutil.which("etcd") is None:
            raise Missing("etcd is not there; run scripts/setup ha")
        return found

    def read_yaml(self, path: Path) -> dict[str, Any]:
        """Read a YAML file, with the parser that Patroni itself uses."""
        code = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin.buffer), sys.stdout)"
        done = subprocess.run([str(self.python), "-c", code], input=path.read_bytes(), capture_output=True, check=True)
        return dict(json.loads(done.stdout))


class Folder(ExitStack):
    """A folder that other accounts may pass through, gone at the end with whatever was put on the stack before."""

    def __init__(self, *, keep: bool = False) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp(prefix="kc-ha-", dir="/var/tmp"))
        self.path.chmod(0o711)
        if not keep:
            self.callback(shutil.rmtree, self.path, ignore_errors=True)


def accounts() -> tuple[Account, Account]:
    """Return the account of the database and the account of the servers; without root both are ours."""
    try:
        return Account.of("postgres"), Account.of(NODE_ACCOUNT)
    except KeyError as fault:
        raise Missing(f"no account {fault}; run scripts/setup ha") from fault


def free_ports(count: int) -> list[int]:
    """Return so many ports that were free a moment ago, none of them twice.

    They lie below the range from which the kernel takes ports for outgoing connections: a member that is down for half a minute
    must find its port free when it comes back.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    for port in range(lowest - 1, 1024, -7):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise Missing("not enough free ports")
