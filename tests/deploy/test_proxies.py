"""The proxies' examples are read by the proxies without a complaint, and carry requests to a real server as they say they do.

The real programs run on the very files of deploy/proxy, with only addresses, ports, names and paths changed. One of the three nodes
is there; the other two are not, so what takes dead nodes out of the round is shown too.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.deploy.checking import DEPLOY, program, run
from tests.live import free_port
from tests.workloads.certificates import Identity
from tests.workloads.conftest import DOMAIN, House, start_house

PROXY = f"spiffe://{DOMAIN}/edge/proxy"
RECORD = {"plaintext": base64.b64encode(b"record").decode()}
ENCRYPT = "/v1/keys/ward-records/encrypt"
CLIENT = "127.0.0.2"  # where our clients come from: not where the proxies do
_BELIEVE = f'trusted_proxies = ["127.0.0.1/32"]\nproxy_names = ["{PROXY}"]\n'


@dataclass
class Edge:
    """A proxy before a server: the ports of its two planes."""

    house: House
    control: int
    data: int
    ca_file: str

    def client(self, port: int, identity: Identity | None = None) -> httpx.Client:
        """Return a client that comes from `CLIENT`."""
        if identity is None:
            context = ssl.create_default_context(cafile=self.ca_file)
        else:
            self.house.made += 1
            context = identity.context(self.house.folder, self.ca_file, f"edge-{self.house.made}")
        transport = httpx.HTTPTransport(verify=context, local_address=CLIENT)
        return httpx.Client(base_url=f"https://127.0.0.1:{port}", transport=transport, timeout=30)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = start_house(
        tmp_path_factory.mktemp("edge"), data=_BELIEVE, listen=_BELIEVE + 'client_certificates = "optional"'
    )  # fmt: skip
    made.live.create_key("ward-records", environment="test", classification="ePHI")
    yield made
    made.live.stop()


def placed(text: str, house: House, edge: dict[str, int], folder: Path) -> str:
    """Return an example with the addresses, names and paths of this test."""
    nodes = {8443: house.live.port, 8444: house.data_port}
    for port, own in nodes.items():
        text = text.replace(f"10.20.0.10:{port}", f"127.0.0.1:{edge[str(port)]}").replace(
            f"10.20.0.21:{port}", f"127.0.0.1:{own}"
        )
        for absent in (22, 23):
            text = text.replace(f"10.20.0.{absent}:{port}", f"127.0.0.1:{free_port()}")
    text = re.sub(r"/etc/(haproxy/tls|nginx/keyclave)", str(folder), text)
    text = text.replace("maxconn 20000", "maxconn 2000").replace("worker_connections 16384", "worker_connections 1024")
    return text.replace("keyclave.example.internal", "localhost").replace("/run/nginx-keyclave.pid", f"{folder}/pid")


def papers(house: House, folder: Path) -> None:
    """Lay the files that the examples name."""
    home = house.live.home / "tls"
    server = (home / "server.pem").read_bytes(), (home / "server.key").read_bytes()
    chain, key = (Path(path).read_bytes() for path in house.outside.svid(PROXY).write(folder, "proxy-certificate"))
    given = {
        "server.pem": b"\n".join(server), "server.key": server[1], "proxy.pem": chain + key, "proxy.crt": chain, "proxy.key": key,
        "nodes-ca.crt": Path(house.live.ca_file).read_bytes(), "workloads-ca.crt": house.outside.pem,
    }  # fmt: skip
    for name, content in given.items():
        (folder / name).write_bytes(content)


def started(house: House, folder: Path, example: str) -> tuple[Edge, Path]:
    edge = {"8443": free_port(), "8444": free_port()}
    papers(house, folder)
    path = folder / example
    path.write_text(placed((DEPLOY / "proxy" / example).read_text(), house, edge, folder))
    return Edge(house, edge["8443"], edge["8444"], house.live.ca_file), path


ABSENT = {f"{plane}_nodes/node{number}" for plane in ("control", "data") for number in (2, 3)}


def absent_nodes_are_out(log: Path) -> bool:
    """Say whether HAProxy has taken the two dead nodes out: when it does, it also breaks off what it had just moved away from them."""
    return set(re.findall(r"Server (\S+) is DOWN", log.read_text())) >= ABSENT


def wait_until_served(edge: Edge, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        if log.name.startswith("haproxy") and not absent_nodes_are_out(log):
            time.sleep(0.05)  # between two looks at a condition
            continue
        try:
            with edge.client(edge.control) as one, edge.client(edge.data) as other:
                if one.get("/v1/health").status_code == other.get("/v1/health").status_code == 200:
                    return
        except httpx.TransportError:
            pass
        time.sleep(0.05)  # between two looks at a condition
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module", params=["haproxy.cfg", "nginx.conf"])
def edge(request: pytest.FixtureRequest, house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Each of the proxies in turn."""
    made, path = started(house, tmp_path_factory.mktemp("proxy"), request.param)
    command = (
        [program("haproxy"), "-db", "-f", str(path)]
        if request.param == "haproxy.cfg"
        else [program("nginx"), "-e", "stderr", "-c", str(path), "-g", "daemon off;"]
    )
    log = path.with_suffix(".log")
    with log.open("wb") as words:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=words, stderr=words)
    try:
        wait_until_served(made, process, log)
        yield made
    finally:
        process.terminate()
        process.wait(20)


def sources(house: House, actor: str) -> set[str]:
    start = max(0, int(house.live.get("/v1/status").json()["log"]["size"]) - 200)
    found = house.live.get("/v1/audit/events", "auditor", params={"from": start, "limit": 1000}).json()["events"]
    return {event["source"] for event in found if event["actor"] == actor}


@pytest.mark.requirement("R32")
def test_the_client_address_is_recorded_and_a_forged_one_is_not(edge: Edge) -> None:
    token = edge.house.live.tokens["custodian"]
    actor = edge.house.live.get("/v1/whoami", "custodian").json()["principal"]
    headers = {"authorization": f"Bearer {token}", "x-forwarded-for": "203.0.113.9", "forwarded": "for=203.0.113.9"}
    with edge.client(edge.control) as client:
        assert client.get("/v1/keys/ward-records", headers=headers).status_code == 200
    assert CLIENT in sources(edge.house, actor)
    assert "203.0.113.9" not in sources(edge.house, actor)


@pytest.mark.requirement("R32")
def test_the_planes_stay_apart(edge: Edge) -> None:
    token = {"authorization": f"Bearer {edge.house.live.token(['encrypt'], ['ward-*'])}"}
    with edge.client(edge.data) as data, edge.client(edge.control) as control:
        assert data.post(ENCRYPT, json=RECORD, headers=token).status_code == 200
        assert control.post(ENCRYPT, json=RECORD, headers=token).status_code == 403
        assert data.post("/v1/unseal", json={"share": "x"}).status_code == 404


@pytest.mark.requirement("R32")
def test_a_workload_is_known_by_its_certificate_and_nobody_by_a_forged_header(edge: Edge) -> None:
    name = f"spiffe://{DOMAIN}/client/{edge.data}"
    edge.house.register(name, ["encrypt"], ["ward-*"])
    identity = edge.house.outside.svid(name)
    forged = {"client-cert": f":{base64.b64encode(identity.der).decode()}:"}
    with edge.client(edge.data, identity) as client:
        assert client.post(ENCRYPT, json=RECORD).status_code == 200
        assert client.get("/v1/whoami").json()["principal"] == name
    with edge.client(edge.data) as nobody:
        assert nobody.post(ENCRYPT, json=RECORD, headers=forged).status_code == 401
    with edge.client(edge.control) as nobody:
        assert nobody.get("/v1/whoami", headers=forged).status_code == 401


@pytest.mark.requirement("R32")
def test_nobody_is_a_workload_or_somewhere_else_by_a_header_behind_the_body(edge: Edge) -> None:
    """What a proxy takes out of a head it lets pass behind the body; nginx takes such a trailer away, HAProxy hands it on."""
    name = f"spiffe://{DOMAIN}/victim/{edge.data}"
    edge.house.register(name, ["encrypt"], ["ward-*"])
    certificate = base64.b64encode(edge.house.outside.svid(name).der)  # as everybody may see it
    body = json.dumps(RECORD).encode()
    head = f"POST {ENCRYPT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: client-cert\r\n\r\n"
    forged = b"0\r\nclient-cert: :%b:\r\nx-forwarded-for: 127.0.0.9\r\n\r\n" % certificate
    trust = ssl.create_default_context(cafile=edge.ca_file)
    for port in (edge.data, edge.control):
        plain = socket.create_connection(("127.0.0.1", port), timeout=20)
        with trust.wrap_socket(plain, server_hostname="localhost") as line:
            line.sendall(head.encode() + b"%x\r\n%b\r\n" % (len(body), body) + forged)
            assert line.recv(65_536).split(b" ", 2)[1] in (b"401", b"403")
    assert not sources(edge.house, name)


@pytest.mark.parametrize(
    ("example", "command", "right", "wrong"),
    [("haproxy.cfg", ("haproxy", "-c", "-f"), "option redispatch 1", "option redispach 1"),
     ("nginx.conf", ("nginx", "-e", "stderr", "-t", "-c"), "server_tokens off", "server_token off")],
)  # fmt: skip
def test_a_fault_is_found(
    house: House, tmp_path: Path, example: str, command: tuple[str, ...], right: str, wrong: str
) -> None:  # fmt: skip
    _, path = started(house, tmp_path, example)
    code, said = run(*command, path)
    assert code == 0, said
    assert "warn" not in said.lower(), said
    path.write_text(path.read_text().replace(right, wrong))
    assert run(*command, path)[0] != 0
