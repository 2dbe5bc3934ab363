"""What a node decrypts while the database is away, and all that it does not: each thing that must hold is taken away once.

Before the judgement, and once more between the judgement and the answer, while the event is on its way to the disk.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keyclave.core.errors import Unavailable
from keyclave.identity.peer import Peer
from keyclave.operations.nodes.contact import Contact
from keyclave.operations.nodes.lease import Lease, steady
from keyclave.operations.nodes.membership import Membership
from keyclave.operations.nodes.stale import StaleUses, Use
from keyclave.operations.revisions import POLICY
from keyclave.protocols.rest.gateway import Head
from keyclave.store.memory_only import check_look_up, memory_only
from keyclave.store.pg.address import read_address
from keyclave.store.postgres import PostgresStore
from tests.postgres import new_database
from tests.protocols.inside import BY_PATH, Inside, inside

pytestmark = pytest.mark.requirement("P1", "P4")

TEXT = base64.b64encode(b"heart rate 61").decode()
SECONDS = 30.0
DECRYPT = "/v1/keys/{key}/decrypt"


class Away(Contact):
    """The database is away when a test says so."""

    said = True

    @property
    def away(self) -> bool:
        return self.said


class Scene:
    """A node whose database has just gone away, and a spool that keeps what it is given until it is told to go on."""

    def __init__(self, server: Inside) -> None:
        self.server, self.desk = server, server.desk
        self.shift = 0.0  # seconds that have passed
        self.gone = False
        self.units: list[Use] = []
        self.recorded: list[dict[str, Any]] = []
        self.answers: list[tuple[int, dict[str, Any]]] = []
        lease = Lease(1.0, lambda: steady() + self.shift)
        self.member = self.desk.membership = Membership("n", lease, lambda release, reach: release())
        self.contact = Away()
        self.desk.stale = StaleUses(self.desk, self.member, self.contact, self, lambda: self.gone, SECONDS)
        self.renew()
        real = server.store.read

        def read(fn: Callable[[Any], Any]) -> Any:
            check_look_up()
            return real(fn)

        server.store.read = read  # type: ignore[method-assign]

    def renew(self) -> None:
        """Renew the lease, twice: the first time announces."""
        for _ in range(2):
            self.member.lease.renewed(steady() + self.shift)

    def serve(self) -> None:
        """Have the database back, to prepare something."""
        self.shift = 0.0
        self.renew()

    def enqueue(self, unit: Use) -> None:
        self.units.append(unit)

    def record(self, failure: Unavailable | None = None) -> None:
        """The spool has what it was given, or cannot take it."""
        for unit in self.units:
            self.recorded += [json.loads(leaf) for leaf in unit.spooled("00112233445566aa", len(self.recorded))]
            unit.done(failure)
        self.units.clear()

    def create(self, name: str, **more: Any) -> str:
        """Create a key and seal something with it; return the ciphertext."""
        body = json.dumps({"name": name, "owner": "o", **more}).encode()
        assert self.server.ask("POST", "/v1/keys", self.server.tokens["custodian"], body)[0] == 201
        asked = json.dumps({"plaintext": TEXT}).encode()
        status, made = self.server.ask("POST", "/v1/keys/{key}/encrypt", self.token, asked, ref=name)
        assert status == 200, made
        return str(json.loads(made)["ciphertext"])

    def ask(self, ref: str, ciphertext: str, path: str = DECRYPT, token: str = "", approval: str = "", **more: Any) -> None:
        head = Head()
        head.authorization = b"Bearer " + (token or self.token).encode()
        head.approval = approval.encode() or None
        body = json.dumps(more or {"ciphertext": ciphertext}).encode()
        self.server.gateway.submit(
            BY_PATH["POST", path], ref, head, body, Peer("test"), lambda status, _kind, text, _more: self.answers.append((status, json.loads(text)))
        )  # fmt: skip

    def key(self, name: str = "firm") -> Any:
        return self.desk.keyring.held(self.tenant, name)

    def caller(self) -> Any:
        return self.desk.callers.authenticate(self.token.encode())


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with inside(tmp_path) as server:
        scope = '{"operations":["encrypt","decrypt"],"keys":["firm","strict"],"context":{}}'
        made = Scene(server)
        made.id, made.token = server.issue("app", "application", scope)  # type: ignore[attr-defined]
        made.tenant = made.caller().tenant  # type: ignore[attr-defined]
        made.firm, made.strict = made.create("firm", stale_ok=True), made.create("strict")  # type: ignore[attr-defined]
        made.renew()
        made.shift = 5.0  # the lease is over
        yield made
        made.desk.stale = made.desk.membership = None


def test_a_use_is_answered_when_it_is_recorded_and_says_how_old_its_knowledge_was(scene: Scene) -> None:
    scene.ask("firm", scene.firm)
    assert scene.answers == []  # nothing before the record
    scene.record()
    ((status, answer),) = scene.answers
    assert (status, base64.b64decode(answer["plaintext"])) == (200, b"heart rate 61")
    (event,) = scene.recorded
    assert answer["event"] == event["id"] == "00112233445566aa-0"
    assert 4900 < event["stale"] < 7000
    assert (event["op"], event["outcome"], event["actor"]) == ("decrypt", "ok", "app")
    assert scene.member._under_way == {}


def test_what_does_not_open_is_recorded_and_told_like_ever(scene: Scene) -> None:
    broken = base64.b64encode(base64.b64decode(scene.firm)[:-1] + b"\0").decode()
    scene.ask("firm", broken)
    scene.ask("firm", "", "/v1/keys/{key}/decrypt/batch", items=[{"ciphertext": scene.firm}, {"ciphertext": broken}])
    scene.record()
    (one, first), (many, second) = scene.answers
    assert (one, first["code"], many) == (400, "undecipherable", 200)
    assert "plaintext" in second["results"][0]
    assert [event["outcome"] for event in scene.recorded] == ["undecipherable", "ok"]
    assert scene.recorded[1]["failed"] == 1


def test_what_cannot_be_recorded_did_not_happen(scene: Scene) -> None:
    scene.ask("firm", scene.firm)
    scene.record(Unavailable("the spool is full", "repeat it"))
    ((status, answer),) = scene.answers
    assert status == 503
    assert "plaintext" not in answer
    assert "event" not in answer


def test_within_the_lease_the_spool_serves_only_while_the_store_is_gone(scene: Scene) -> None:
    scene.shift = 0.0
    scene.renew()
    assert scene.desk.stale is not None
    assert not scene.desk.stale.open()
    scene.gone = True
    assert scene.desk.stale.open()
    scene.contact.said = False
    assert scene.desk.stale.open()
    scene.shift = 5.0
    assert not scene.desk.stale.open()


def _forget(scene: Scene, name: str) -> None:
    scene.desk.keyring.forget(scene.tenant, name)
    scene.desk.callers.forget(scene.tenant, name)


def _late(scene: Scene) -> None:
    """The key was looked up after the last question."""
    scene.key().loaded_at = steady() + 1


def _unknown_version(scene: Scene) -> None:
    scene.key().handles.clear()


TAKEN_AWAY: dict[str, Callable[[Scene], object]] = {
    "the time is over": lambda scene: setattr(scene, "shift", 1.0 + SECONDS + 0.1),
    "the clock is wrong": lambda scene: setattr(scene.member, "fault", "the clock is wrong"),
    "the key is pending": lambda scene: scene.desk.pending.add((scene.key().key.id,)),
    "the caller is pending": lambda scene: scene.desk.pending.add(("app",)),
    "the credential is pending": lambda scene: scene.desk.pending.add((scene.id,)),
    "the policy is pending": lambda scene: scene.desk.pending.add((POLICY,)),
    "the policy is not known": lambda scene: scene.desk.access.revisions.forget(scene.tenant),
    "the key is not known": lambda scene: _forget(scene, scene.key().key.id),
    "the house is sealed": lambda scene: scene.desk.let_go(),
    "the caller has ended": lambda scene: setattr(scene.caller(), "expires_at", 1),
}
ONLY_BEFORE: dict[str, Callable[[Scene], object]] = {
    "the node drains": lambda scene: setattr(scene.desk, "draining", True),
    "the key came late": _late,
    "the version is not known": _unknown_version,
    "the database is not away": lambda scene: setattr(scene.contact, "said", False),
    "the lease was given back": lambda scene: scene.member.lease.give_back(),
}
ONLY_AFTER: dict[str, Callable[[Scene], object]] = {
    "the caller is revoked": lambda scene: _forget(scene, "app"),
    "the credential is revoked": lambda scene: _forget(scene, scene.id),
}


@pytest.mark.parametrize("what", [*TAKEN_AWAY, *ONLY_BEFORE])
def test_without_any_one_thing_nothing_is_decrypted_told_or_recorded(scene: Scene, what: str) -> None:
    caller = scene.caller()
    (TAKEN_AWAY | ONLY_BEFORE)[what](scene)
    if what == "the caller has ended":  # the gateway would look them up again: whoever got past it is refused as well
        attempt = scene.desk.begin(BY_PATH["POST", DECRYPT], caller, Peer("test"), lambda done: scene.answers.append((503, {"error": done.error, "answer": done.answer})))  # fmt: skip
        scene.desk.perform(BY_PATH["POST", DECRYPT], attempt, "firm", scene.server.gateway._request(BY_PATH["POST", DECRYPT], json.dumps({"ciphertext": scene.firm}).encode()))  # fmt: skip
    else:
        scene.ask("firm", scene.firm)
        if what in ("the database is not away", "the time is over", "the clock is wrong", "the lease was given back"):
            scene.server.store.flush()  # refused like any other request
    assert scene.units == []
    ((status, answer),) = scene.answers
    assert status == 503
    assert "plaintext" not in answer


@pytest.mark.parametrize("what", [*TAKEN_AWAY, *ONLY_AFTER])
def test_what_is_taken_away_while_the_event_is_written_is_not_answered(scene: Scene, what: str) -> None:
    scene.ask("firm", scene.firm)
    (TAKEN_AWAY | ONLY_AFTER)[what](scene)
    scene.record()
    ((status, answer),) = scene.answers
    assert status == 503
    assert "plaintext" not in answer
    assert len(scene.recorded) == 1
    assert scene.member._under_way == {}


def test_other_keys_and_other_operations_are_refused_as_ever(scene: Scene) -> None:
    scene.ask("strict", scene.strict)
    scene.ask("absent", scene.firm)
    scene.ask("firm", scene.firm, approval="apr_x")
    assert [status for status, _ in scene.answers] == [503] * 3
    assert {answer["detail"] for _, answer in scene.answers} == {"the database does not answer: nothing was done"}
    for verb in ("encrypt", "re-encrypt"):
        scene.answers.clear()
        scene.ask("firm", scene.firm, f"/v1/keys/{{key}}/{verb}", **({"plaintext": TEXT} if verb == "encrypt" else {}))
        scene.server.store.flush()
        assert scene.answers[0][0] == 503
    assert scene.units == []


def test_a_forbidden_key_looks_like_one_that_is_not_known(scene: Scene) -> None:
    scene.serve()
    _, other = scene.server.issue("other", "application", '{"operations":["decrypt"],"keys":["strict"],"context":{}}')
    scene.desk.callers.authenticate(other.encode())
    scene.shift = 5.0
    scene.ask("firm", scene.firm, token=other)
    scene.ask("nothing", scene.firm, token=other)
    assert scene.answers[0] == scene.answers[1]
    assert scene.answers[0][0] == 503


def test_a_counted_grant_is_not_used_up_where_nobody_counts(scene: Scene) -> None:
    scene.serve()
    _, other = scene.server.issue("counted", "application", '{"operations":["decrypt"],"keys":["strict"],"context":{}}')
    body = {"grantee": "counted", "operations": ["decrypt"], "keys": ["firm"], "ttl_seconds": 600, "uses": 5, "reason": "x"}
    status, made = scene.server.ask("POST", "/v1/grants", scene.server.tokens["operator"], json.dumps(body).encode())
    assert status == 201, made
    status, made = scene.server.ask("POST", DECRYPT, other, json.dumps({"ciphertext": scene.firm}).encode(), ref="firm")
    assert status == 200, made
    scene.desk.callers.authenticate(other.encode())
    scene.renew()
    scene.shift = 5.0
    scene.answers.clear()
    scene.ask("firm", scene.firm, token=other)
    assert [status for status, _ in scene.answers] == [503]
    assert scene.units == []


def test_a_change_of_others_counts_as_applied_only_when_stale_uses_under_way_are_answered(scene: Scene) -> None:
    from keyclave.operations.nodes.follower import Question

    told: list[int] = []
    scene.ask("firm", scene.firm)
    scene.member.applied(Question(0.0, 7, [("t", "x")]), lambda: told.append(7))
    assert told == []
    scene.record()
    assert told == [7]


def test_what_acts_on_memory_alone_asks_the_database_nothing() -> None:
    with new_database() as database:
        store = PostgresStore(read_address(database.url(), development=True), "0badcafe")
        try:
            assert store.read(lambda conn: 1) == 1
            with memory_only(), pytest.raises(Unavailable):
                store.read(lambda conn: 1)
            assert store.read(lambda conn: 2) == 2
        finally:
            store.close()
