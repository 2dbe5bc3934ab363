"""An unsealed node hands the root key on to one that starts: to a node that is named, lives on this store, and is sealed."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from keyclave.crypto.pyca import PycaModule
from keyclave.crypto.suites import KeySpec
from tests.cluster.several import Several, is_ready, several, until
from tests.postgres import new_database
from tests.workloads.certificates import Authority, Identity

NODE, STRANGER = "spiffe://nodes.example/node", "spiffe://nodes.example/backup-server"


class House:
    """The nodes, and certificates of nodes and of others under the same authority."""

    def __init__(self, nodes: Several, folder: Path, authority: Authority) -> None:
        self.several, self.folder, self.authority = nodes, folder, authority

    def client(self, identity: Identity | None, name: str) -> httpx.Client:
        node = self.several.nodes[0]
        if identity is None:
            return httpx.Client(base_url=node.url, verify=ssl.create_default_context(cafile=node.ca_file))
        return httpx.Client(base_url=node.url, verify=identity.context(self.folder, node.ca_file, name))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("handing")
    authority = Authority.root("nodes")
    (folder / "nodes.pem").write_bytes(authority.pem)
    chain, key = authority.svid(NODE).write(folder, "node")

    def configure(text: str, ports: list[int]) -> str:
        peers = ", ".join(f'"https://127.0.0.1:{port}"' for port in ports)
        return (
            text.replace("[listen]\n", '[listen]\nclient_certificates = "optional"\n', 1)
            + f'\n[nodes]\npeers = [{peers}]\npeers_ca = "tls/ca.pem"\ncertificate = "{chain}"\nkey = "{key}"\n'
            + f'may_unseal = ["{NODE}"]\nunseal_authority = "nodes"\n'
            + f'\n[[workloads.authorities]]\nlabel = "nodes"\nbundle = "{folder}/nodes.pem"\ntrust_domain = "nodes.example"\n'
        )

    with new_database() as database, several(folder, database, 2, configure, unsealed=1) as made:
        yield House(made, folder, authority)


@pytest.mark.requirement("R22")
def test_a_node_that_starts_is_unsealed_by_its_peer_and_both_record_it(house: House) -> None:
    one, other = house.several.nodes
    until(lambda: is_ready(other), "the second node stays sealed")
    one.create_key("chart")
    token = one.token(["encrypt"], ["chart"])
    text = base64.b64encode(b"x").decode()
    assert other.post("/v1/keys/chart/encrypt", token, {"plaintext": text}).status_code == 200

    def recorded() -> bool:
        events = one.get("/v1/audit/events?limit=1000", "auditor").json()["events"]
        given = [event for event in events if event["op"] == "node-unseal" and event["outcome"] == "ok"]
        taken = [event for event in events if event["op"] == "unseal" and "by" in event.get("detail", {})]
        return len(given) >= 1 and len(taken) >= 1 and given[0]["actor"] == NODE

    until(recorded, "one of the two events is missing")


def test_after_a_seal_nobody_is_unsealed_by_a_peer(house: House) -> None:
    one, other = house.several.nodes
    assert one.post("/v1/seal", "custodian").status_code == 200
    assert {node.get("/v1/health").json()["status"] for node in (one, other)} == {"sealed"}
    one.unseal()
    until(lambda: is_ready(one), "the first node is not ready")
    until(lambda: sorted(row["status"] for row in house.several.rows()) == ["sealed", "serving"], "the list does not follow")
    assert other.get("/v1/health").json()["status"] == "sealed"


@pytest.mark.parametrize("who", ["nobody", "stranger", "other authority"])
def test_whoever_is_not_named_gets_no_nonce(house: House, who: str) -> None:
    identity = {
        "nobody": None,
        "stranger": house.authority.svid(STRANGER),
        "other authority": Authority.root("elsewhere").svid(NODE),
    }[who]
    with house.client(identity, who) as http:
        try:
            answer = http.post("/v1/node-unseal/nonce", json={})
        except httpx.HTTPError:
            assert who == "other authority"  # the handshake fails
            return
    assert answer.status_code in (401, 403)
    assert "nonce" not in answer.json()


@pytest.fixture
def node(house: House) -> Iterator[httpx.Client]:
    with house.client(house.authority.svid(NODE), "again") as http:
        yield http


def _ask(http: httpx.Client, **changed: Any) -> httpx.Response:
    pair = PycaModule().generate_pair(KeySpec.ECDH_P384)
    nonce = http.post("/v1/node-unseal/nonce", json={}).json()["nonce"]
    body = {"node": "0" * 16, "nonce": nonce, "public": base64.b64encode(pair.public).decode()} | changed
    return http.post("/v1/node-unseal", json=body)


def test_a_certificate_alone_is_not_enough_the_node_must_live_on_this_store(node: httpx.Client) -> None:
    answer = _ask(node)
    assert answer.status_code == 403
    assert "no such node" in answer.json()["detail"]


def test_an_unsealed_node_is_given_nothing(house: House, node: httpx.Client) -> None:
    here = next(row["id"] for row in house.several.rows() if row["this"])
    assert _ask(node, node=here).status_code == 403


def test_a_nonce_is_taken_once_and_from_its_own_certificate(house: House, node: httpx.Client) -> None:
    sealed = next(row["id"] for row in house.several.rows() if row["status"] == "sealed")
    assert _ask(node, node=sealed, nonce="0" * 32).status_code == 403
    nonce = node.post("/v1/node-unseal/nonce", json={}).json()["nonce"]
    with house.client(house.authority.svid(NODE), "third") as other:
        assert _ask(other, node=sealed, nonce=nonce).status_code == 403
    fresh = node.post("/v1/node-unseal/nonce", json={}).json()["nonce"]
    given = _ask(node, node=sealed, nonce=fresh)
    assert given.status_code == 200, given.text
    assert _ask(node, node=sealed, nonce=fresh).status_code == 403


def test_a_public_key_that_is_none_is_refused(house: House, node: httpx.Client) -> None:
    sealed = next(row["id"] for row in house.several.rows() if row["status"] == "sealed")
    for public in ("", "AAAA", base64.b64encode(PycaModule().generate_pair(KeySpec.ECDH_P256).public).decode(), "no base64!"):
        assert _ask(node, node=sealed, public=public).status_code in (400, 422)
