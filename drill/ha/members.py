"""The members of the database cluster: an etcd and a Patroni with its PostgreSQL on each of three places on loopback.

Their settings are those of deploy/etcd and deploy/patroni, with the addresses, paths and passwords of this run, and less memory.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drill.ha.papers import Papers
from drill.ha.process import Account, Program, children, kill_all

LOOPBACK = "127.0.0.1"
GUARD = Path(__file__).resolve().parents[2] / "deploy/patroni/disk_guard.py"


@dataclass(frozen=True)
class Ports:
    """Where the parts of one member listen."""

    etcd: int
    etcd_peer: int
    patroni: int
    postgres: int


@dataclass
class Member:
    """One place of the cluster, with everything that runs on it."""

    name: str
    ports: Ports
    folder: Path
    data: Path
    papers: Papers
    etcd: Program
    patroni: Program
    guard: Program
    lost: bool = field(default=False)

    @property
    def programs(self) -> tuple[Program, Program, Program]:
        """All that is started on this place, in the order of starting."""
        return self.etcd, self.patroni, self.guard

    def postmaster(self) -> int | None:
        """Return the process id of its PostgreSQL, from the file that PostgreSQL itself keeps, if that process is really it."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if str(self.data).encode() in command else None

    def kill_postgres(self) -> None:
        """kill -9 the postmaster alone, as the kernel does when memory runs out."""
        pid = self.postmaster()
        if pid is None:
            raise RuntimeError(f"{self.name} has no running PostgreSQL")
        os.kill(pid, signal.SIGKILL)

    def lose(self, *, with_etcd: bool) -> None:
        """Everything on this place is gone at one stroke, as when its power fails."""
        self.lost = True
        pid = self.postmaster()
        victims = [pid, *children(pid)] if pid is not None else []
        for program in self.programs if with_etcd else (self.patroni, self.guard):
            if program.process is not None and program.runs:
                victims += [program.process.pid, *children(program.process.pid)]
        kill_all(victims)
        for program in self.programs:
            if program.process is not None:
                program.process.poll()

    def come_back(self) -> None:
        """Start what is not running, as a machine does when it has power again."""
        for program in self.programs:
            if not program.runs:
                program.start()
        self.lost = False


def etcd_program(
    documented: dict[str, Any], member: str, places: dict[str, Ports], folder: Path, papers: Papers, account: Account
) -> Program:
    """Write the documented settings with this place's own put in, and return the etcd of one member."""
    ports = places[member]
    client, peer = f"https://{LOOPBACK}:{ports.etcd}", f"https://{LOOPBACK}:{ports.etcd_peer}"
    tls = {"cert-file": str(papers.certificate), "key-file": str(papers.key), "trusted-ca-file": str(papers.ca)}
    settings: dict[str, Any] = json.loads(json.dumps(documented))
    settings |= {"name": member, "data-dir": str(account.folder(folder / "etcd"))}
    settings |= {"listen-client-urls": client, "advertise-client-urls": client}
    settings |= {"listen-peer-urls": peer, "initial-advertise-peer-urls": peer}
    settings["initial-cluster"] = ",".join(f"{name}=https://{LOOPBACK}:{other.etcd_peer}" for name, other in places.items())
    for side in ("client-transport-security", "peer-transport-security"):
        settings[side] |= tls
    path = account.file(folder / "etcd.yml", json.dumps(settings, indent=1))
    return Program(f"etcd of {member}", ["etcd", "--config-file", str(path)], account, folder / "etcd.log")


def patroni_settings(
    documented: dict[str, Any], name: str, places: dict[str, Ports], folder: Path, data: Path, papers: Papers, bin_dir: Path,
    passwords: dict[str, str],
) -> dict[str, Any]:  # fmt: skip
    """Return the documented settings with what belongs to this place put in."""
    own = places[name]
    settings: dict[str, Any] = json.loads(json.dumps(documented))
    settings["name"] = name
    tls = {"cafile": str(papers.ca), "certfile": str(papers.certificate), "keyfile": str(papers.key)}
    settings["restapi"] |= {"listen": f"{LOOPBACK}:{own.patroni}", "connect_address": f"{LOOPBACK}:{own.patroni}", **tls}
    settings["ctl"] = {"cacert": tls["cafile"], "certfile": tls["certfile"], "keyfile": tls["keyfile"]}
    settings["etcd3"] |= {"hosts": [f"{LOOPBACK}:{other.etcd}" for other in places.values()]}
    settings["etcd3"] |= {"cacert": tls["cafile"], "cert": tls["certfile"], "key": tls["keyfile"]}
    settings["watchdog"] = {"mode": "off"}  # a drill must not reset the machine it runs on
    settings["bootstrap"]["dcs"]["postgresql"]["parameters"] |= {"max_connections": 100, "max_slot_wal_keep_size": "256MB"}
    postgresql = settings["postgresql"]
    postgresql |= {"listen": f"{LOOPBACK}:{own.postgres}", "connect_address": f"{LOOPBACK}:{own.postgres}"}
    postgresql |= {"data_dir": str(data), "bin_dir": str(bin_dir), "pgpass": str(folder / "pgpass")}
    for role, password in passwords.items():
        postgresql["authentication"][role] |= {"password": password, "sslrootcert": tls["cafile"]}
    postgresql["parameters"] |= {
        "unix_socket_directories": str(folder),
        "ssl_cert_file": tls["certfile"],
        "ssl_key_file": tls["keyfile"],
        "ssl_ca_file": tls["cafile"],
        "shared_buffers": "64MB",
        "min_wal_size": "64MB",
        "max_wal_size": "128MB",
        "wal_keep_size": "64MB",
    }
    backup = f"pgbackrest --config={folder}/pgbackrest.conf --stanza=keyclave"
    documented_command = settings["bootstrap"]["dcs"]["postgresql"]["parameters"]["archive_command"]
    archive = documented_command.replace("pgbackrest --stanza=keyclave", backup)
    postgresql["parameters"]["archive_command"] = archive  # here, where each member has settings of its own on one machine
    recovery = postgresql["recovery_conf"]
    recovery["restore_command"] = recovery["restore_command"].replace("pgbackrest --stanza=keyclave", backup)
    postgresql["pg_hba"] = [
        line.replace("10.20.0.0/24", "127.0.0.1/32").replace("10.20.0.0/16", "127.0.0.1/32") for line in postgresql["pg_hba"]
    ]
    return settings


def patroni_program(name: str, patroni: Path, settings: dict[str, Any], folder: Path, account: Account) -> Program:
    """Write the settings (JSON is YAML) and return the Patroni of one member."""
    path = account.file(folder / "patroni.yml", json.dumps(settings, indent=1))
    return Program(f"Patroni of {name}", [str(patroni), str(path)], account, folder / "patroni.log")


def guard_program(name: str, ports: Ports, folder: Path, data: Path, papers: Papers, account: Account) -> Program:
    """Return the guard of one member's disk, as deploy/systemd starts it."""
    command = ["/usr/bin/python3", "-I", str(account.file(folder / "disk_guard.py", GUARD.read_bytes()))]
    command += ["--name", name, "--url", f"https://{LOOPBACK}:{ports.patroni}", "--data", str(data)]
    command += ["--cacert", str(papers.ca), "--cert", str(papers.certificate), "--key", str(papers.key)]
    return Program(f"disk guard of {name}", command, account, folder / "guard.log")


def primaries(view: dict[str, Any]) -> Sequence[str]:
    """Return the names of the members that a view of the cluster calls its running leader."""
    return [m["name"] for m in view.get("members", []) if m.get("role") in ("leader", "master") and m.get("state") == "running"]
