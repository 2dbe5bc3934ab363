"""An unsealed node hands the root key on to one that starts: to a node that is named, lives on this store, and is sealed."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from keyclave.core.errors import Sealed
from keyclave.crypto.pyca import PycaModule
from keyclave.crypto.suites import KeySpec
from keyclave.operations.invalidation import SEAL
from keyclave.operations.nodes import hand_on
from keyclave.operations.nodes.handing_rules import HandingOn
from keyclave.operations.nodes.lease import Lease
from keyclave.operations.nodes.membership import Membership
from keyclave.store import nodes as rows
from keyclave.store.changes import keep_changes
from tests.cluster.several import Several, is_ready, several
from tests.postgres import new_database
from tests.waiting import until
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


# ---- what time could open -------------------------------------------------------------------------------------------------
@pytest.fixture
def giver() -> Iterator[tuple[Any, Connection]]:
    """A node's inside as handing on sees it, and the database where a sealed node has just joined."""
    with new_database() as database:
        engine = create_engine("postgresql+psycopg://", creator=lambda: database.connect("keyclave_app"), poolclass=NullPool)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            membership = Membership("giver", Lease(1.0), lambda release: release())
            store = SimpleNamespace(read=lambda fn: fn(conn), node="giver")
            rows.renew(conn, rows.Node("asker", "a", "v", "s", 0, 0, 0, 0, 0, sealed=True, draining=False), 60_000_000)
            yield SimpleNamespace(store=store, membership=membership), conn


@pytest.mark.requirement("P4", "R22")
def test_a_node_that_joined_after_a_seal_gets_no_key_from_one_that_has_not_heard_of_it(giver: tuple[Any, Connection]) -> None:
    desk, conn = giver
    hand_on._check_row(desk, "asker")
    conn.exec_driver_sql("BEGIN")
    keep_changes(conn, "other", [("t", "key")])
    conn.exec_driver_sql("COMMIT")
    hand_on._check_row(desk, "asker")
    conn.exec_driver_sql("BEGIN")
    keep_changes(conn, "other", [("t", SEAL)])  # the asking node began after this, and will never be told
    conn.exec_driver_sql("COMMIT")
    with pytest.raises(Sealed):
        hand_on._check_row(desk, "asker")
    desk.membership.change = 2
    hand_on._check_row(desk, "asker")  # unsealed again since: this node has applied the seal


@pytest.mark.requirement("R22")
def test_one_certificate_that_asks_without_end_keeps_no_other_node_from_its_nonce(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hand_on, "_name_of", lambda desk, peer: NODE)
    desk = SimpleNamespace(
        clock=SimpleNamespace(now=lambda: 0), handing_on=HandingOn("nodes", frozenset({NODE})), module=PycaModule(),
        store=SimpleNamespace(node="giver"),
    )  # fmt: skip
    other = hand_on.give_nonce(desk, SimpleNamespace(thumbprint=b"other")).nonce  # type: ignore[arg-type]
    mine = [hand_on.give_nonce(desk, SimpleNamespace(thumbprint=b"flood")).nonce for _ in range(1000)]  # type: ignore[arg-type]
    assert hand_on.give_nonce(desk, SimpleNamespace(thumbprint=b"third")).nonce in desk.handing_on.nonces  # type: ignore[arg-type]
    assert other in desk.handing_on.nonces
    assert mine[-1] in desk.handing_on.nonces
    assert len(desk.handing_on.nonces) < 64
