"""Two servers whose database goes away: keys that allow it go on opening what they sealed, recorded once, and no longer than said."""

from __future__ import annotations

import base64
import contextlib
import os
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from keyclave.audit.event import Event, encode
from keyclave.store.spool.file import Spool
from keyclave.store.spool.folder import Folder
from tests.cluster.several import Several, again, is_ready, several, until
from tests.live import Live
from tests.postgres import Database, new_database
from tests.protocols.test_record import events
from tests.store.proxy import Proxy, before

TEXT = base64.b64encode(b"heart rate 61").decode()
SECONDS = 5

pytestmark = pytest.mark.requirement("P1", "P4", "R32")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Several]:
    def configure(text: str, ports: list[int]) -> str:
        return text + f'\n[nodes]\nstale_spool = "spool"\nstale_seconds = {SECONDS}\n'

    folder = tmp_path_factory.mktemp("stale")
    with new_database() as database, before(f"{database.server.folder}/.s.PGSQL.{database.server.port}", folder) as wire:

        def prepare(number: int, home: Path) -> None:
            if number == 1:  # the second node's way to the database can be cut
                config = (home / "keyclave.toml").read_text()
                there = f"host={database.server.folder}&port={database.server.port}"
                assert there in config
                (home / "keyclave.toml").write_text(config.replace(there, f"host={wire.host}&port={wire.port}"))

        with several(folder, database, 2, configure, prepare=prepare) as made:
            made.wire = wire  # type: ignore[attr-defined]
            one = made.nodes[0]
            one.create_key("firm", stale_ok=True)
            one.create_key("strict")
            yield made


@pytest.fixture(scope="module")
def token(two: Several) -> str:
    return two.nodes[0].token(["encrypt", "decrypt"], ["firm", "strict"])


@contextmanager
def away(database: Database) -> Iterator[None]:
    """Let nobody reach the database meanwhile."""
    with database.server.connect() as conn:
        conn.execute(f"ALTER DATABASE {database.name} WITH ALLOW_CONNECTIONS false")
        conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database.name,))
        try:
            yield
        finally:
            conn.execute(f"ALTER DATABASE {database.name} WITH ALLOW_CONNECTIONS true")


@contextmanager
def cut_off(two: Several) -> Iterator[None]:
    """Cut the second node off from the database meanwhile, while the first one serves."""
    wire: Proxy = two.wire  # type: ignore[attr-defined]
    wire.open = False
    wire.cut_all()
    try:
        yield
    finally:
        wire.open = True


def sealed(node: Live, token: str, key: str) -> str:
    answer = node.post(f"/v1/keys/{key}/encrypt", token, {"plaintext": TEXT, "context": {"patient": "p-17"}})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["ciphertext"])


def opened(node: Live, token: str, key: str, ciphertext: str) -> Any:
    return node.post(f"/v1/keys/{key}/decrypt", token, {"ciphertext": ciphertext, "context": {"patient": "p-17"}})


def warm(node: Live, token: str, key: str, ciphertext: str) -> None:
    """Have the node know the key before its newest question."""
    assert opened(node, token, key, ciphertext).status_code == 200
    time_of_lease = time.monotonic()
    until(lambda: time.monotonic() > time_of_lease + 0.5, "time stands still")


def notice(node: Live, token: str, ciphertext: str) -> None:
    """Wait until the node decrypts stale. What is under way when the database goes is told as unknown, and that takes a while."""

    def ask() -> None:
        with contextlib.suppress(httpx.HTTPError):  # the node may be stopped before it answers
            opened(again(node), token, "firm", ciphertext)

    threading.Thread(target=ask, daemon=True).start()
    until(lambda: opened(again(node), token, "firm", ciphertext).status_code == 200, "nothing is decrypted stale")


def back(two: Several) -> None:
    for node in two.nodes:
        until(lambda node=node: is_ready(node), "a node does not come back")
        until(lambda node=node: node.get("/v1/keys", "auditor").status_code == 200, "a node does not read again")


def stale_events(node: Live, ids: set[str]) -> list[dict[str, Any]]:
    """Return the events of those ids, as the log has them, once it has them all."""
    found: list[dict[str, Any]] = []

    def all_there() -> bool:
        try:
            found[:] = [event for event in events(node, operation="decrypt") if event["id"] in ids]
        except KeyError:  # refused: it has no lease at the moment
            return False
        return len(found) >= len(ids)

    until(all_there, f"not all of {len(ids)} stale events are in the log")
    return found


def test_only_what_is_allowed_is_decrypted_and_all_of_it_is_in_the_log_afterwards(two: Several, token: str) -> None:
    one, other = two.nodes
    firm, strict = sealed(one, token, "firm"), sealed(one, token, "strict")
    for node in two.nodes:
        warm(node, token, "firm", firm)
        warm(node, token, "strict", strict)
    ids: set[str] = set()
    with away(two.database):
        for node in two.nodes:
            notice(node, token, firm)
            assert node.get("/v1/health/stale").json() == {"status": "stale"} or is_ready(node)
            for _ in range(20):
                answer = opened(node, token, "firm", firm)
                assert answer.status_code == 200, answer.text
                assert base64.b64decode(answer.json()["plaintext"]) == b"heart rate 61"
                ids.add(answer.json()["event"])
            batch = {"items": [{"ciphertext": firm, "context": {"patient": "p-17"}}] * 3}
            answer = node.post("/v1/keys/firm/decrypt/batch", token, batch)
            assert (answer.status_code, len(answer.json()["results"])) == (200, 3)
            ids.add(answer.json()["event"])
            wrong = node.post("/v1/keys/firm/decrypt", token, {"ciphertext": firm, "context": {"patient": "p-18"}})
            assert (wrong.status_code, wrong.json()["code"]) == (400, "undecipherable"), wrong.text
            ids.add(wrong.json()["event"])
            refused = [
                opened(node, token, "strict", strict),
                opened(node, token, "absent", firm),
                node.post("/v1/keys/firm/encrypt", token, {"plaintext": TEXT}),
                node.post("/v1/keys/firm/re-encrypt", token, {"ciphertext": firm, "context": {"patient": "p-17"}}),
                node.post("/v1/keys/firm/suspend", "custodian", {"reason": "x"}),
                opened(node, "kct_nobody", "firm", firm),
            ]
            assert [answer.status_code for answer in refused] == [503] * len(refused)
            assert all(not answer.json().get("event") for answer in refused)
    assert len(ids) == 2 * 22
    back(two)
    found = stale_events(one, ids)
    assert sorted(event["id"] for event in found) == sorted(ids)  # each of them once
    assert all(0 < event["stale"] < 1000 * (SECONDS + 2) for event in found)
    assert {event["outcome"] for event in found} == {"ok", "undecipherable"}
    assert all(event["context"]["patient"][0].startswith("h:") for event in found)
    placed: list[dict[str, Any]] = []

    def all_placed() -> bool:
        placed[:] = [event["detail"] for event in events(one, operation="spool-place")]
        return sum(int(detail["new"]) for detail in placed) >= len(ids)

    until(all_placed, "not every placing is in the log")
    assert {detail["spool"] for detail in placed} == {"whole"}
    for node in two.nodes:
        until(lambda node=node: len(list((node.home / "spool").iterdir())) == 1, "a spool is left")  # the one for next time
    journals = {str(event["id"]).split("-")[0] for event in found}
    assert {row["id"] for row in two.rows()} & journals == set()
    assert opened(other, token, "firm", firm).json()["event"].split("-")[0] not in journals


def test_it_ends_by_the_clock(two: Several, token: str) -> None:
    one = two.nodes[0]
    firm = sealed(one, token, "firm")
    warm(one, token, "firm", firm)
    with away(two.database):
        began = time.monotonic()
        notice(one, token, firm)
        until(lambda: one.get("/v1/health/stale").json() == {"status": "stale"}, "it does not say that it decrypts", 2)
        assert one.get("/v1/health/ready").status_code == 503
        until(lambda: opened(one, token, "firm", firm).status_code == 503, "stale use does not end", 10)
        assert one.get("/v1/health/stale").status_code == 503
        took = time.monotonic() - began
        assert SECONDS - 0.5 < took < SECONDS + 1.5
    back(two)


def test_a_revocation_is_answered_when_a_node_that_is_cut_off_can_no_longer_decrypt(two: Several) -> None:
    one, other = two.nodes
    one.create_key("revoked", stale_ok=True)
    token = one.token(["encrypt", "decrypt"], ["revoked"])
    ciphertext = sealed(one, token, "revoked")
    warm(other, token, "revoked", ciphertext)
    uses: list[tuple[float, int]] = []
    stop = threading.Event()

    def hammer() -> None:
        mine = again(other)
        while not stop.is_set():
            status = opened(mine, token, "revoked", ciphertext).status_code
            uses.append((time.monotonic(), status))

    with cut_off(two):
        thread = threading.Thread(target=hammer)
        thread.start()
        until(lambda: sum(status == 200 for _, status in uses) > 5, "nothing is decrypted")
        began = time.monotonic()
        answer = one.post("/v1/keys/revoked/suspend", "custodian", {"reason": "lost"})
        returned = time.monotonic()
        assert answer.status_code == 200, answer.text
        seen = len(uses)
        until(lambda: len(uses) > seen + 20, "nothing is asked")
        stop.set()
        thread.join()
        after = [status for at, status in uses if at > returned]
        assert 200 not in after
        assert any(status == 200 for at, status in uses if began < at)  # it went on until then
        assert returned - began > SECONDS - 1
        assert returned - began <= 1.25 * (1 + SECONDS) + 1.0
        quick = time.monotonic()
        one.create_key("nothing-to-do-with-it")
        assert time.monotonic() - quick < 1.25 + 0.5
    back(two)
    assert opened(other, token, "revoked", ciphertext).status_code == 409


def test_a_network_that_swallows_everything_is_noticed_as_well(two: Several, token: str) -> None:
    other = two.nodes[1]
    firm = sealed(other, token, "firm")
    warm(other, token, "firm", firm)
    wire: Proxy = two.wire  # type: ignore[attr-defined]
    wire.freeze()
    try:
        until(lambda: says_stale(other), "it does not notice", SECONDS + 1)  # a look-up under way may hold it up for 3 s
        assert opened(again(other), token, "firm", firm).status_code == 200
    finally:
        wire.thaw()
    back(two)


def says_stale(node: Live) -> bool:
    return bool(node.get("/v1/health/stale").json() == {"status": "stale"})


def lay(node: Live, journal: str, cluster: str, *groups: list[bytes]) -> Path:
    """Write a spool into a node's folder, as a process does that was killed."""
    folder = Folder(node.home / "spool")
    spool = Spool(folder, journal, cluster, 1 << 20)
    for group in groups:
        spool.append(group)
    os.close(spool._file)
    folder.close()
    return node.home / "spool" / spool.name


def crafted(journal: str, number: int) -> bytes:
    return encode(
        Event(actor="app", at=1_700_000_000_000_000 + number, id=f"{journal}-{number}", op="decrypt", outcome="ok", stale=7)
    )


def test_what_a_killed_node_had_spooled_is_placed_when_it_starts_again(two: Several, token: str) -> None:
    one, other = two.nodes
    firm = sealed(one, token, "firm")
    warm(other, token, "firm", firm)
    with away(two.database):
        notice(other, token, firm)
        ids = {opened(other, token, "firm", firm).json()["event"] for _ in range(10)}
        other.kill()
    until(lambda: is_ready(one), "a node does not come back")
    cluster = tomllib.loads((other.home / "keyclave.toml").read_text())["store"]["cluster"]
    torn = lay(other, "a" * 16, cluster, [crafted("a" * 16, 0)], [crafted("a" * 16, 1)])
    torn.write_bytes(torn.read_bytes()[:-5])
    damaged = lay(other, "b" * 16, cluster, [crafted("b" * 16, 0)], [crafted("b" * 16, 1)], [crafted("b" * 16, 2)])
    damaged.write_bytes(damaged.read_bytes().replace(crafted("b" * 16, 1), crafted("b" * 16, 9)))
    foreign = lay(other, "c" * 16, "another-clinic", [crafted("c" * 16, 0)])
    empty = lay(other, "d" * 16, cluster)
    other.restart()
    until(lambda: is_ready(other), "a node does not come back")
    assert sorted(event["id"] for event in stale_events(one, ids)) == sorted(ids)
    kept = {"a" * 16 + "-0", "b" * 16 + "-0"}
    stale_events(one, kept)
    until(lambda: not torn.exists() and not empty.exists() and not damaged.exists(), "spools are left")
    assert damaged.with_suffix(".damaged").exists()
    assert foreign.exists()
    found = events(one)
    assert {event["id"] for event in found if event["id"][:16] in ("a" * 16, "b" * 16, "c" * 16)} == kept
    placed = {event["detail"]["journal"]: event["detail"] for event in found if event["op"] == "spool-place"}
    assert placed["a" * 16] == {"events": 1, "journal": "a" * 16, "new": 1, "spool": "torn"}
    assert placed["b" * 16] == {"events": 1, "journal": "b" * 16, "new": 1, "spool": "damaged"}
