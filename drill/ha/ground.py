"""The ground of the drills: three etcd, three Patroni and their PostgreSQL with quorum-synchronous replication, on loopback.

Everything is waited for by what the cluster says of itself (GET /cluster), nothing by the clock. The order of ending is Patroni (which
stops its PostgreSQL), then whatever PostgreSQL is left, then etcd.
"""

from __future__ import annotations

import json
import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drill.ha.backup import Backup
from drill.ha.disk import SmallDisk, can_mount_files
from drill.ha.members import LOOPBACK, Member, Ports, etcd_program, guard_program, patroni_program, patroni_settings, primaries
from drill.ha.papers import Authority
from drill.ha.places import ROOT, Folder, Programs, accounts, free_ports
from drill.ha.process import kill_all, wait_for

NAMES = ("db1", "db2", "db3")
SMALL = "db1"  # the member whose disk can be filled
_DISK_MEBIBYTES = 640
_STANDBY = ("quorum_standby", "sync_standby")


class Ground:
    """A running cluster. Use as a context; inside, `dsn` reaches whichever member is the primary."""

    def __init__(self, *, keep: bool = False) -> None:
        self._keep = keep
        self.programs = Programs.find()
        self.database, self.nodes = accounts()
        self.passwords = {role: secrets.token_urlsafe(24) for role in ("superuser", "replication", "rewind")}
        self.members: dict[str, Member] = {}
        self.disk: SmallDisk | None = None
        self.authority = Authority("Keyclave drill")

    # ---- up and down ------------------------------------------------------------------------------------------------------
    def __enter__(self) -> Ground:
        self._folder = Folder(keep=self._keep)
        self.folder = self._folder.path
        try:
            self._lay()
            self._folder.callback(self.down)
            self.ca_file = self.nodes.file(self.folder / "ca.crt", self.authority.pem(), 0o644)
            self._up()
        except BaseException:
            self._folder.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.close()

    def _lay(self) -> None:
        numbers = iter(free_ports(4 * len(NAMES)))
        places = {name: Ports(next(numbers), next(numbers), next(numbers), next(numbers)) for name in NAMES}
        documented = self.programs.read_yaml(ROOT / "deploy/patroni/patroni.yml")
        documented_etcd = self.programs.read_yaml(ROOT / "deploy/etcd/etcd.yml")
        self.backup = Backup(ROOT / "deploy/backup/pgbackrest.conf", self.folder, self.database)
        for name in NAMES:
            folder = self.database.folder(self.folder / name)
            papers = self.authority.issue(folder / "tls", name, self.database)
            data = self._disk_of(name, folder) / "data"
            settings = patroni_settings(
                documented, name, places, folder, data, papers, self.programs.postgres, self.passwords
            )  # fmt: skip
            etcd = etcd_program(documented_etcd, name, places, folder, papers, self.database)
            patroni = patroni_program(name, self.programs.patroni, settings, folder, self.database)
            guard = guard_program(name, places[name], folder, data, papers, self.database)
            self.members[name] = Member(name, places[name], folder, data, papers, etcd, patroni, guard)
            self.backup.configure(self.members[name])

    def _disk_of(self, name: str, folder: Path) -> Path:
        if name != SMALL or not can_mount_files():
            return folder
        self.disk = SmallDisk(self.folder / f"{name}.img", folder / "disk", _DISK_MEBIBYTES)
        if not self.disk.mount():
            self.disk = None
            return folder
        self._folder.callback(self.disk.unmount)
        self.database.own(folder / "disk", 0o700)
        return folder / "disk"

    def _up(self) -> None:
        for member in self.members.values():
            member.etcd.start()
        first, *others = self.members.values()
        first.patroni.start()  # alone at first, so that it is known who holds the small disk
        wait_for("the first member is primary", lambda: self.primary() == first.name, 90)
        self.backup.run(first, self.passwords["superuser"], "stanza-create")
        for member in others:
            member.patroni.start()
        self.wait_healthy()
        for member in self.members.values():
            member.guard.start()

    def down(self) -> None:
        """End everything in the order of the documentation."""
        if self.disk is not None:
            self.disk.free()
        for member in self.members.values():
            member.guard.end()
        for member in self.members.values():
            member.patroni.end()
        left = [pid for pid in (m.postmaster() for m in self.members.values()) if pid is not None]
        kill_all(left)
        for member in self.members.values():
            member.etcd.end()

    # ---- looking ----------------------------------------------------------------------------------------------------------
    def _ask(self, member: Member, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        context = ssl.create_default_context(cafile=str(member.papers.ca))
        context.load_cert_chain(member.papers.certificate, member.papers.key)
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"https://{LOOPBACK}:{member.ports.patroni}{path}", data)
        try:
            with urllib.request.urlopen(request, context=context, timeout=30 if body else 3) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read()

    def view(self) -> dict[str, Any]:
        """Return GET /cluster of the first member that answers; empty when none does."""
        for member in self.members.values():
            try:
                status, raw = self._ask(member, "/cluster")
            except OSError:
                continue
            if status == 200:
                return dict(json.loads(raw))
        return {}

    def primary(self) -> str | None:
        """Return the name of the running primary, if there is one and only one."""
        names = primaries(self.view())
        return names[0] if len(names) == 1 else None

    def other(self, *names: str) -> str:
        """Return a healthy standby that is none of these."""
        view = self.view()["members"]
        fit = (m for m in view if m["role"] in _STANDBY and m["name"] not in names and m["state"] == "streaming")
        return str(next(fit)["name"])

    def is_healthy(self) -> bool:
        """Tell whether a primary and two standbys that count for the quorum are all there."""
        members = self.view().get("members", [])
        standbys = [m for m in members if m.get("role") in _STANDBY and m.get("state") == "streaming"]
        return len(standbys) == len(NAMES) - 1 and len(primaries({"members": members})) == 1

    def wait_healthy(self, seconds: float = 120) -> None:
        """Return when all three members are there and in step."""
        wait_for("three members, two of them standbys in step", self.is_healthy, seconds, 0.2)

    def dsn(self, user: str = "postgres", password: str | None = None, database: str = "postgres", **more: str) -> str:
        """Return the words with which libpq reaches the primary, whoever it is."""
        fields = {
            "host": ",".join(LOOPBACK for _ in NAMES),
            "port": ",".join(str(self.members[name].ports.postgres) for name in NAMES),
            "user": user,
            "password": self.passwords["superuser"] if password is None else password,
            "dbname": database,
            "target_session_attrs": "read-write",
            "connect_timeout": "2",
            "tcp_user_timeout": "2000",
            "sslmode": "verify-full",
            "sslrootcert": str(self.ca_file),
            **more,
        }
        return " ".join(f"{name}={value}" for name, value in fields.items())

    # ---- hurting ----------------------------------------------------------------------------------------------------------
    def switch_over(self, to: str | None = None) -> str:
        """Ask Patroni for a planned switch; return the new primary once it is there."""
        old = self.primary()
        if old is None or old == to:
            return old or ""
        body = {"leader": old, **({"candidate": to} if to else {})}
        status, raw = self._ask(self.members[old], "/switchover", body)
        if status != 200:
            raise RuntimeError(f"Patroni refused the switch: {status} {raw.decode(errors='replace')}")
        found = wait_for("another primary after the switch", lambda: self._other_than(old), 60)
        return str(found)

    def _other_than(self, name: str) -> str | None:
        now = self.primary()
        return now if now is not None and now != name else None

    def come_back(self, names: Sequence[str] = NAMES) -> None:
        """Start what does not run on these members and wait until the cluster is whole."""
        for name in names:
            self.members[name].come_back()
        self.wait_healthy()

    def said(self) -> str:
        """Return the last words of every part, for the report of a run that failed."""
        parts = [part for member in self.members.values() for part in member.programs]
        return "\n".join(f"--- {part.name}\n{part.said()}" for part in parts)
