"""A live server for tests: the real ceremony, the real process, on loopback, gone with the test."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.approving import Approver, Approvers
from tests.homes import Held, hold_once, replace_in_settings
from tests.stored import stored_bytes

if TYPE_CHECKING:
    from tests.postgres import Database

ROOT = Path(__file__).parent.parent
COMPILED = ROOT / "build" / "compiled"  # as scripts/setup makes it
SOURCE = COMPILED if os.environ.get("KEYCLAVE_TEST_COMPILED") else ROOT / "src"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE)}
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)  # a server that compiles everything anew takes three times as long to start
START_SECONDS = 40
NO_PORT, NO_DATA_PORT = "18443", "18444"  # in the settings of a home that is only copied from
LEASE_SECONDS = 10
READS_LOG = re.compile(r"/v1/(log|audit|status|approvals/[^/]+/bundle|policy/simulate)")


@dataclass
class Live:
    """A running server and everything its people hold. `request` speaks raw REST; `token` issues application credentials."""

    home: Path
    port: int
    url: str
    ca_file: str
    origin: str
    shares: list[str]
    tokens: dict[str, str]
    process: subprocess.Popen[bytes]
    http: httpx.Client
    workers: int = 1
    database: Database | None = None
    at_the_end: ExitStack = field(default_factory=ExitStack, repr=False)
    _issued: int = field(default=0)
    approvers: Approvers = field(init=False, repr=False)
    further: list[str] = field(default_factory=list)  # tokens of custodians and operators who were made later
    colleagues: list[dict[str, str]] = field(init=False, repr=False)  # of each tenant, the tokens of its first people

    def __post_init__(self) -> None:
        self.approvers = Approvers(self._send)
        self.colleagues = [self.tokens]

    def request(self, method: str, path: str, token: str | None = None, *, alone: bool = False, **kwargs: Any) -> httpx.Response:
        """Send a request with the token of a role (custodian, operator, auditor) or a token itself.

        What waits for the approval of others is asked for, signed by the tenant's other first people, and sent again with the
        approval; unless the caller wants to be `alone`. Where asking is refused already, that is the answer.
        """
        if READS_LOG.match(path):
            self.until_placed()
        headers = dict(kwargs.pop("headers", {}))
        if token:
            headers["authorization"] = "Bearer " + self.tokens.get(token, token)
        answer = self.http.request(method, path, headers=headers, **kwargs)
        if not alone and token and answer.status_code == 403 and answer.json().get("code") == "approval_required":
            approval = self.approved(method, path, token, kwargs.get("json"))
            if isinstance(approval, httpx.Response):
                return approval
            answer = self.http.request(method, path, headers={**headers, "keyclave-approval": approval}, **kwargs)
        if answer.status_code == 201 and path == "/v1/tenants":
            self.colleagues.append({one["role"]: one["token"] for one in answer.json()["credentials"]})
        if answer.status_code == 201 and path == "/v1/credentials" and answer.json()["role"] in ("custodian", "operator"):
            self.further.append(answer.json()["token"])
        return answer

    def until_it_has_its_lease(self) -> None:
        """On PostgreSQL a node serves once the database has heard of it, a moment after it listens."""
        if self.database is None:
            return
        deadline = time.monotonic() + START_SECONDS
        while self.http.get("/v1/whoami", headers={"authorization": f"Bearer {self.tokens['auditor']}"}).status_code == 503:
            assert time.monotonic() < deadline, "the node did not get its lease"
            time.sleep(0.02)  # between two looks at a condition

    def until_placed(self) -> None:
        """On PostgreSQL what was answered is in its node's journal, and gets its place in the log a moment later: wait for it."""
        if self.database is None:
            return
        unplaced = "SELECT (SELECT coalesce(sum(count), 0) FROM journal), (SELECT coalesce(max(first + count), 0) FROM segments)"
        deadline = time.monotonic() + START_SECONDS
        with self.database.connect() as conn:
            row = conn.execute(unplaced).fetchone()
            while row is None or row[1] < row[0]:
                assert time.monotonic() < deadline, f"of {row[0] if row else 0} events {row[1] if row else 0} have a place"
                time.sleep(0.02)  # between two looks at a condition
                row = conn.execute(unplaced).fetchone()

    def stored(self) -> bytes:
        """Return all that it keeps, as whoever got hold of its disk would find it."""
        return stored_bytes(self.home, self.database)

    @property
    def log_file(self) -> Path:
        """Where everything stands that the process has said."""
        return self.home.parent / f"{self.home.name}.server.log"

    def approved(self, method: str, path: str, who: str, body: Any) -> str | httpx.Response:
        """Ask for approval of a request, have others sign it, and return the approval's id; or why asking was refused."""
        from tests.protocols.every import operation

        op = operation(method, path)
        found = re.fullmatch(re.sub(r"\{\w+\}", "([^/]+)", op.path), path)
        ref = found.group(1) if found is not None and found.groups() else ""
        token = self.tokens.get(who, who)
        asked = {"operation": op.name, "ref": ref, "request": body, "reason": "as planned"}
        answer = self.request("POST", "/v1/approvals", token, alone=True, json=asked)
        if answer.status_code == 409:
            return answer
        assert answer.status_code == 201, answer.text
        made = answer.json()
        tenant = self.get("/v1/whoami", token).json()["tenant"]
        fitting = [role for role in ("operator", "custodian", "auditor") if role in made["roles"][0]]
        first = [one[role] for one in self.colleagues for role in fitting]
        others = (one for one in (*first, *self.further) if self.get("/v1/whoami", one).json().get("tenant") == tenant)
        self.approvers.approve(made["id"], token, others)
        return str(made["id"])

    def approver(self, token: str) -> Approver:
        """Return a person with an enrolled key: one of a role, or whoever has this token."""
        return self.approvers.of(self.tokens.get(token, token))

    def _send(self, path: str, ref: str, token: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        path = re.sub(r"\{\w+\}", ref, path)
        answer = self.get(path, token) if body is None else self.request("POST", path, token, alone=True, json=body)
        return answer.status_code, dict(answer.json())

    def post(self, path: str, token: str | None = None, body: Any = None, **kwargs: Any) -> httpx.Response:
        """POST a JSON body."""
        return self.request("POST", path, token, json={} if body is None else body, **kwargs)

    def get(self, path: str, token: str | None = None, **kwargs: Any) -> httpx.Response:
        """GET."""
        return self.request("GET", path, token, **kwargs)

    def create_key(self, name: str, **fields: Any) -> dict[str, Any]:
        """Create a key as the custodian."""
        answer = self.post("/v1/keys", "custodian", {"name": name, "owner": "cardiology", **fields})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def token(self, operations: list[str], keys: list[str], context: dict[str, list[str]] | None = None, ttl: int = 3600) -> str:
        """Issue an application credential as the operator and return its token."""
        self._issued += 1
        scope = {"operations": operations, "keys": keys, "context": context or {}}
        body = {"principal": f"app-{os.getpid()}-{self._issued}", "role": "application", "ttl_seconds": ttl, "scope": scope}
        answer = self.post("/v1/credentials", "operator", body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])

    def unseal(self) -> None:
        """Give shares until the server is open."""
        for share in self.shares:
            if self.post("/v1/unseal", body={"share": share}).json().get("sealed") is False:
                return

    def kill(self) -> None:
        """kill -9. On PostgreSQL nobody is to wait for the dead node: that others do is shown by tests of nodes."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if self.database is not None:
            with self.database.connect() as conn:
                conn.execute("UPDATE nodes SET left_at = seen_at WHERE left_at IS NULL")

    def keep(self, folder: Path) -> None:
        """Copy all that there is of a dead server, to be put back later."""
        shutil.copytree(self.home, folder)
        if self.database is not None:
            self.database.keep()

    def put_back(self, folder: Path) -> None:
        """Put in the place of a dead server what was kept."""
        shutil.rmtree(self.home)
        shutil.copytree(folder, self.home)
        if self.database is not None:
            self.database.put_back()

    def stop(self) -> None:
        """Ask it to end, and see that it does, for good."""
        self.http.close()
        self.end()
        self.at_the_end.close()

    def end(self) -> None:
        """Ask the process to end, and see that it does; `restart` may follow."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def restart(self, *, unseal: bool = True) -> None:
        """Start the process again on the same home."""
        self.process = start(self.home, self.port, self.workers)
        wait_until_up(self.url, self.ca_file, self.process)
        if unseal:
            self.unseal()
        self.until_it_has_its_lease()


def free_port() -> int:
    """Return a port that was free a moment ago, below those that outgoing connections are given meanwhile."""
    while True:
        port = random.randint(12_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def init(home: Path, port: int, *arguments: str) -> dict[str, Any]:
    """Hold the ceremony."""
    made = home.parent / f"{home.name}.made.json"
    command = [sys.executable, "-m", "keyclave.app", "init", "--home", str(home), "--port", str(port)]
    subprocess.run(
        [*command, "--out-json", str(made), "--people", "tokens", *arguments],
        check=True,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
    )
    return dict(json.loads(made.read_text()))


def start(home: Path, port: int, workers: int = 1) -> subprocess.Popen[bytes]:
    """Start the server process; what it says goes to server.log beside the home."""
    with (home.parent / f"{home.name}.server.log").open("ab") as log:
        command = [sys.executable, "-m", "keyclave.app", "serve", "--home", str(home), "--port", str(port)]
        command += ["--workers", str(workers)] if workers != 1 else []
        return subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def wait_until_up(url: str, ca_file: str, process: subprocess.Popen[bytes]) -> None:
    """Return when the server answers."""
    context = ssl.create_default_context(cafile=ca_file)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}")
        try:
            urllib.request.urlopen(url + "/v1/status", context=context if url.startswith("https") else None, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError, OSError):
            time.sleep(0.02)  # between two looks at a condition
    raise AssertionError("the server did not come up")


@cache
def ceremony(*arguments: str) -> Held[dict[str, Any]]:
    """Return what the ceremony with these arguments made, in this process; it names a port that nobody has."""

    def hold(home: Path, url: str) -> dict[str, Any]:
        return init(home, int(NO_PORT), *arguments, *(("--store", url) if url else ()))

    return hold_once(hold)


@contextmanager
def new_home(home: Path, port: int, *arguments: str, another: bool = False) -> Iterator[tuple[dict[str, Any], Database | None]]:
    """Make a home for a server on `port`; lend what its ceremony handed over, and the database that it names."""
    if "--store" in arguments:
        yield init(home, port, *arguments), None
        return
    wishes, ports = list(arguments), {NO_PORT: str(port)}
    if "--data-port" in wishes:
        at = wishes.index("--data-port") + 1
        ports[NO_DATA_PORT], wishes[at] = wishes[at], NO_DATA_PORT
    held = (ceremony.__wrapped__ if another else ceremony)(*wishes)
    with held.copied(home) as database:
        made = {**held.made, "ca_file": str(home / "tls/ca.pem")}
        for name, here in ports.items():
            replace_in_settings(home, name, here)
            made = {**made, "url": made["url"].replace(name, here), "data_url": made["data_url"].replace(name, here)}
        yield made, database


def launch(
    folder: Path,
    *arguments: str,
    settings: str = "",
    unseal: bool = True,
    configure: Callable[[str], str] | None = None,
    workers: int = 1,
    another: bool = False,
) -> Live:
    """Make a home below `folder`, start its server and unseal it. `settings` is appended to keyclave.toml's [log] table;
    `configure` returns what is to stand in the file instead of what the ceremony wrote. `another` is an installation that shares
    nothing with the others: the homes of the others are copies, one for each way to wish them."""
    home, port = folder / "home", free_port()
    with ExitStack() as stack:
        made, database = stack.enter_context(new_home(home, port, *arguments, another=another))
        at_the_end = stack.pop_all()
    if settings:
        path = home / "keyclave.toml"
        path.write_text(path.read_text().replace("[log]\n", f"[log]\n{settings}\n"))
    if configure:
        path = home / "keyclave.toml"
        path.write_text(configure(path.read_text()))
    if database is not None:  # a machine that runs the whole suite stalls for longer than the lease of a server in service
        path = home / "keyclave.toml"
        path.write_text(path.read_text() + f"\n[nodes]\nlease_seconds = {LEASE_SECONDS}\n")
    process = start(home, port, workers)
    live = Live(
        home=home,
        port=port,
        url=made["url"],
        ca_file=made["ca_file"],
        origin=made["origin"],
        shares=made["shares"],
        tokens=made["credentials"],
        process=process,
        http=httpx.Client(base_url=made["url"], verify=ssl.create_default_context(cafile=made["ca_file"]), timeout=30),
        workers=workers,
        database=database,
        at_the_end=at_the_end,
    )
    try:
        wait_until_up(live.url, live.ca_file, process)
        if unseal:
            live.unseal()
        live.until_it_has_its_lease()
    except BaseException:
        live.stop()
        raise
    return live
