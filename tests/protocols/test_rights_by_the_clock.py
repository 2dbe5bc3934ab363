"""Rights that end by themselves, to the microsecond; what is taken away while it is being used."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyclave.core.clock import MICROSECONDS
from keyclave.identity.peer import Peer
from keyclave.operations.elevation.upkeep import keep_elevations
from keyclave.operations.people import accept
from keyclave.protocols.rest.gateway import Head
from tests.approving import Approver
from tests.protocols.clocked import ENCRYPT, HOUR, PLAIN, House, clocked
from tests.protocols.inside import BY_PATH


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with clocked(tmp_path, monkeypatch) as made:
        yield made


# ---- grants ---------------------------------------------------------------------------------------------------------------
@pytest.mark.requirement("R29", "R33")
def test_a_grant_ends_at_its_time_and_only_it(house: House) -> None:
    house.give(ttl_seconds=60)
    begun = house.hands.at
    for passed, expected in [(0, 200), (60 * MICROSECONDS - 1, 200), (60 * MICROSECONDS, 404), (HOUR, 404)]:
        house.hands.at = begun + passed
        assert house.use() == expected
    assert house.ask("GET", "/v1/whoami", house.app)[0] == 200  # the credential lives on
    house.give(ttl_seconds=60)
    assert house.use() == 200


@pytest.mark.requirement("R29")
def test_what_is_revoked_in_the_same_group_permits_nothing_after_it(house: House) -> None:
    """Everything below waits for one commit: the use that comes behind the revocation is refused, the one before it stands."""
    grant, before = house.give(), len(house.events())
    answers: list[int] = []
    gateway = house.server.gateway

    def send(path: str, token: str, ref: str, body: Any) -> None:
        head = Head()
        head.authorization = b"Bearer " + token.encode()
        gateway.submit(
            BY_PATH["POST", path],
            ref,
            head,
            json.dumps(body).encode(),
            Peer("test"),
            lambda status, *_: answers.append(status),
        )

    send(ENCRYPT, house.app, "ward", {"plaintext": PLAIN})
    send("/v1/grants/{grant}/revoke", house.server.tokens["operator"], grant["id"], {})
    send(ENCRYPT, house.app, "ward", {"plaintext": PLAIN})
    house.server.store.flush()
    assert answers == [200, 200, 404]
    assert [(e["op"], e["outcome"]) for e in house.events()[before:]] == [
        ("encrypt", "ok"),
        ("grant-revoke", "ok"),
        ("encrypt", "unknown"),
    ]


class Held:
    """Stands for the worker threads: holds what was handed over until it is let go."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def submit(self, fn: Callable[..., None], *args: Any) -> None:
        self.waiting.append(lambda: fn(*args))

    def let_go(self) -> None:
        waiting, self.waiting = self.waiting, []
        for run in waiting:
            run()


@pytest.mark.requirement("R29")
@pytest.mark.parametrize("how", ["revoked", "expired", "kept", "another is given"])
def test_a_slow_use_is_judged_again_before_it_leaves(house: House, how: str) -> None:
    house.ask("POST", "/v1/keys", "custodian", {"name": "seal", "owner": "x", "spec": "rsa-3072", "purpose": "sign"}, expect=201)
    workers = Held()
    grant = house.give(uses=5)
    house.server.desk.workers = workers  # type: ignore[assignment]
    answers: list[int] = []
    head = Head()
    head.authorization = b"Bearer " + house.app.encode()
    body = json.dumps({"message": PLAIN}).encode()
    house.server.gateway.submit(
        BY_PATH["POST", "/v1/keys/{key}/sign"], "seal", head, body, Peer("test"), lambda status, *_: answers.append(status)
    )
    house.server.store.flush()
    assert answers == [] and len(workers.waiting) == 1
    if how == "revoked":
        house.ask("POST", "/v1/grants/{grant}/revoke", "operator", ref=grant["id"], expect=200)
    elif how == "expired":
        house.hands.at += 60 * MICROSECONDS
    elif how == "another is given":
        house.give()
    workers.let_go()
    house.server.store.flush()
    workers.let_go()  # one that was done over
    house.server.store.flush()
    assert answers == ([200] if how in ("kept", "another is given") else [404])
    left = house.ask("GET", "/v1/grants/{grant}", "operator", ref=grant["id"], expect=200)["remaining"]
    assert left == (4 if how == "kept" else 5)  # an uncounted grant is used first


@pytest.mark.requirement("R29")
@pytest.mark.file_store("its COMMIT fails by a fault of the disk; commits that PostgreSQL loses are in tests/store")
def test_a_lost_commit_spends_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    grant = house.give(uses=2)
    raw = house.server.store.line.raw
    house.server.store.line.raw = _Failing(raw)  # type: ignore[assignment]
    assert house.use() == 503
    house.server.store.line.raw = raw
    assert house.ask("GET", "/v1/grants/{grant}", "operator", ref=grant["id"], expect=200)["remaining"] == 2
    assert [house.use() for _ in range(3)] == [200, 200, 404]


class _Failing:
    """A connection whose COMMIT fails, and everything with it."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def execute(self, statement: str, *args: Any) -> Any:
        if statement == "COMMIT":
            raise __import__("sqlite3").OperationalError("disk I/O error")
        return self._raw.execute(statement, *args)


@pytest.mark.requirement("R29", "R32")
def test_a_grant_for_a_network_is_good_nowhere_else(house: House) -> None:
    house.rules(lambda text: text + '\n[networks]\nwards = ["10.1.0.0/16", "2001:db8:1::/48"]\nvpn = ["10.9.0.0/24"]\n')
    house.give(networks=["wards"], ttl_seconds=6000)
    for address, expected in [
        ("10.1.2.3", 200), ("2001:db8:1::7", 200), ("10.9.0.1", 404), ("10.2.0.1", 404), ("::ffff:10.2.0.1", 404), ("", 404),
    ]:  # fmt: skip
        assert house.send(ENCRYPT, house.app, "ward", {"plaintext": PLAIN}, address)[0] == expected, address
    assert house.send(ENCRYPT, house.app, "ward", {"plaintext": PLAIN}, "10.9.0.1", **{"x-forwarded-for": "10.1.2.3"})[0] == 404
    house.rules(lambda text: text.replace('wards = ["10.1.0.0/16", "2001:db8:1::/48"]', 'wards = ["10.7.0.0/16"]'))
    assert house.send(ENCRYPT, house.app, "ward", {"plaintext": PLAIN}, "10.1.2.3")[0] == 404  # the name means another place now


# ---- elevation ------------------------------------------------------------------------------------------------------------
@pytest.mark.requirement("R10", "R33")
def test_a_role_ends_by_itself_and_the_clock_writes_it_down(house: House) -> None:
    house.ask("POST", "/v1/eligibilities", "custodian", {"principal": "clinician", "role": "operator"}, expect=201)
    taken = house.ask(
        "POST", "/v1/elevations", house.person, {"role": "operator", "reason": "incident", "minutes": 10}, expect=201
    )
    begun, ends = house.hands.at, 600 * MICROSECONDS
    for passed, role in [(0, "operator"), (ends - 1, "operator"), (ends, "person"), (ends + 1, "person")]:
        house.hands.at = begun + passed
        assert house.ask("GET", "/v1/whoami", house.person, expect=200)["role"] == role
        assert house.ask("GET", "/v1/credentials", house.person)[0] == (200 if role == "operator" else 403)
    assert house.events(op="elevation-end") == []
    assert keep_elevations(house.server.desk) == 1
    house.server.store.flush()
    assert [(e["actor"], e["detail"]["elevation"]) for e in house.events(op="elevation-end")] == [("clock", taken["id"])]
    assert keep_elevations(house.server.desk) == 0
    shown = house.ask("GET", "/v1/elevations", "auditor", expect=200)["elevations"][0]
    assert (shown["status"], shown["ended_by"], shown["ended_at"]) == ("ended", "clock", shown["ends_at"])
    # and can be taken on again, also where its end was not written down yet
    for _ in range(2):
        house.ask("POST", "/v1/elevations", house.person, {"role": "operator", "reason": "again", "minutes": 1}, expect=201)
        house.hands.at += 60 * MICROSECONDS


@pytest.mark.requirement("R10", "R30")
def test_a_role_is_taken_on_by_who_is_known_surely_enough(house: House) -> None:
    house.ask("POST", "/v1/eligibilities", "custodian", {"principal": "clinician", "role": "operator"}, expect=201)
    body = {"role": "operator", "reason": "incident"}
    house.rules(lambda text: text.replace("operator = 1", "operator = 2"))
    status, answer = house.ask("POST", "/v1/elevations", house.person, body)
    assert (status, answer["code"]) == (403, "assurance_required")
    house.rules(
        lambda text: text.replace("operator = 2", "operator = 1").replace(
            "max_minutes = 60\nfresh_minutes = 0", "fresh_minutes = 5"
        )
    )
    status, answer = house.ask("POST", "/v1/elevations", house.person, body)
    assert (status, answer["code"]) == (403, "step_up_required")
    house.rules(lambda text: text.replace("fresh_minutes = 5", "fresh_minutes = 0"))
    house.ask("POST", "/v1/elevations", house.person, body, expect=201)


@pytest.mark.requirement("R10")
def test_custom_roles_are_taken_on_and_a_policy_that_forbids_it_is_heard(house: House) -> None:
    house.rules(
        lambda text: (
            text
            + '\n[roles.night-operator]\nduty = "operator"\nparents = ["operator"]\n\n[[exclusive]]\nroles = ["night-operator", "keeper"]\nwhy = "one watches the other"\n\n[roles.keeper]\nduty = "operator"\n'
        )
    )
    house.ask("POST", "/v1/eligibilities", "custodian", {"principal": "clinician", "role": "night-operator"}, expect=201)
    status, answer = house.ask("POST", "/v1/eligibilities", "custodian", {"principal": "clinician", "role": "keeper"})
    assert (status, answer["code"]) == (409, "separation_of_duties")
    assert "one watches the other" in answer["detail"]
    house.ask("POST", "/v1/elevations", house.person, {"role": "night-operator", "reason": "night"}, expect=201)
    me = house.ask("GET", "/v1/whoami", house.person, expect=200)
    assert (me["role"], me["elevation"]["role"]) == ("operator", "night-operator")
    assert house.ask("GET", "/v1/credentials", house.person)[0] == 200  # nested in the duty, it has its rights
    forbid = '@id("no-nights")\nforbid(principal in Role::"night-operator", action == Action::"credential-list", resource);\n'
    house.policy("nights.cedar", forbid)
    assert house.ask("GET", "/v1/credentials", house.person)[0] == 403
    house.ask("POST", "/v1/elevations/{elevation}/end", house.person, ref=me["elevation"]["id"], expect=200)
    house.policy("nights.cedar", '@id("no-elevation")\nforbid(principal, action == Action::"elevate", resource);\n')
    status, answer = house.ask("POST", "/v1/elevations", house.person, {"role": "night-operator", "reason": "night"})
    assert (status, "no-elevation" in answer["detail"]) == (403, True)


@pytest.mark.requirement("R10", "R31")
def test_roles_that_wait_for_approval_are_not_taken_on_alone(house: House) -> None:
    nested = '\n[roles.night-operator]\nduty = "operator"\nparents = ["operator"]\n'
    house.rules(lambda text: text.replace("approval_roles = []", 'approval_roles = ["operator"]') + nested)
    for role in ("operator", "night-operator"):
        house.ask("POST", "/v1/eligibilities", "custodian", {"principal": "clinician", "role": role}, expect=201)
        body = json.dumps({"role": role, "reason": "incident"}).encode()
        status, text = house.server.ask("POST", "/v1/elevations", house.person, body)
        assert (status, json.loads(text)["code"]) == (403, "approval_required")
    house.ask("POST", "/v1/elevations/approved", house.person, {"role": "operator", "reason": "incident"}, expect=201)
    house.ask("POST", "/v1/elevations/{elevation}/end", house.person, ref=_running(house), expect=200)
    house.rules(lambda text: text.replace('operations = ["elevate-approved"]', ""))  # no rule says who approves: nobody can
    status, answer = house.ask("POST", "/v1/elevations/approved", house.person, {"role": "operator", "reason": "incident"})
    assert (status, answer["code"]) == (403, "refused")


def _running(house: House) -> str:
    return str(house.ask("GET", "/v1/whoami", house.person, expect=200)["elevation"]["id"])


@pytest.mark.requirement("R33")
def test_an_elevation_ends_with_its_eligibility(house: House) -> None:
    house.ask("POST", "/v1/eligibilities", "custodian", {"principal": "clinician", "role": "operator", "days": 1}, expect=201)
    house.hands.at += 86_400 * MICROSECONDS - 60 * MICROSECONDS
    taken = house.ask("POST", "/v1/elevations", house.person, {"role": "operator", "reason": "incident"}, expect=201)
    assert taken["seconds_left"] == 60
    house.hands.at += 60 * MICROSECONDS
    assert house.ask("POST", "/v1/elevations", house.person, {"role": "operator", "reason": "incident"})[0] == 403


@pytest.mark.requirement("R16")
def test_the_glass_closes_by_itself_and_an_overdue_review_alarms_again_and_again(house: House) -> None:
    glass = {"principal": "clinician", "role": "break-glass", "keys": ["ward"], "operations": ["encrypt"]}
    house.ask("POST", "/v1/eligibilities", "custodian", glass, expect=201)
    broken = {"reason": "unconscious", "reference": "p-1", "minutes": 30}
    made = house.ask("POST", "/v1/break-glass", house.person, broken, expect=201)
    assert house.use(house.person, patient="p-1") == 200
    house.hands.at += 30 * 60 * MICROSECONDS
    assert house.use(house.person, patient="p-1") in (403, 404)
    alarms = lambda: len(house.ask("GET", "/v1/alarms", "auditor", expect=200)["alarms"])  # noqa: E731
    assert alarms() == 1
    for hours, expected in [(0, 1), (23, 1), (24, 2), (25, 2), (48, 3), (49, 3), (72, 4)]:
        house.hands.at = begun_review(made) + hours * HOUR
        keep_elevations(house.server.desk)
        house.server.store.flush()
        assert alarms() == expected, hours
    assert len(house.events(op="review-overdue", actor="clock")) == 3
    assert house.ask("GET", "/v1/elevations", "auditor", expect=200)["elevations"][0]["status"] == "overdue"
    assert house.ask("POST", "/v1/break-glass", house.person, broken)[0] == 403
    review = {"verdict": "justified", "notes": "late, but seen"}
    house.ask("POST", "/v1/elevations/{elevation}/review", "auditor", review, ref=made["id"], expect=200)
    house.hands.at += 100 * HOUR
    assert keep_elevations(house.server.desk) == 0
    house.ask("POST", "/v1/break-glass", house.person, broken, expect=201)


def begun_review(made: dict[str, Any]) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(made["ends_at"].replace("Z", "+00:00")).timestamp()) * MICROSECONDS


@pytest.mark.requirement("R16")
def test_a_name_that_policy_makes_plain_does_not_make_the_reference_plain(house: House) -> None:
    house.server.desk._plain = frozenset({"patient"})
    glass = {"principal": "clinician", "role": "break-glass", "keys": ["ward"], "operations": ["encrypt"]}
    house.ask("POST", "/v1/eligibilities", "custodian", glass, expect=201)
    house.ask("POST", "/v1/break-glass", house.person, {"reason": "unconscious", "reference": "mrn-48151623"}, expect=201)
    (event,) = house.events(op="break-glass")
    assert event["context"]["patient"][0].startswith("h:")
    assert house.use(house.person, patient="mrn-48151623") == 200
    assert house.use(house.person, patient="mrn-48151624") == 403
    assert house.use(house.person, encounter="mrn-48151623") == 200
    for table in ("elevations", "eligibilities", "alarms"):
        rows = house.server.raw(f"SELECT * FROM {table}")
        assert "mrn-48151623" not in str(rows)


# ---- roles that come by invitation, and what one does to the elevations of others --------------------------------------------
APART = (
    '\n[roles.night-operator]\nduty = "operator"\n\n[roles.keeper]\nduty = "operator"\n\n'
    '[[exclusive]]\nroles = ["night-operator", "keeper"]\nwhy = "one watches the other"\n'
)


def _enrol(house: House, invitation: str) -> tuple[int, Any]:
    """Enrol a key with an invitation's token, and return the server's last answer."""
    begun: list[Any] = []
    request = accept.BeginEnrolment(invitation=invitation)
    accept.begin(house.server.desk, Peer("test"), request, begun.append)
    house.server.store.flush()
    session = begun[0].answer.token
    person = Approver(house.server._send, session)
    said = house.ask("POST", "/v1/authenticators/key/begin", session, expect=200)
    pem = person.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    body = {"ceremony": said["ceremony"], "public_key": pem, "proof": person.signature(said["statement"])}
    return house.ask("POST", "/v1/authenticators/key", session, body)  # type: ignore[no-any-return]


@pytest.mark.requirement("R10")
def test_an_invitation_brings_no_roles_together_that_exclude_each_other(house: House) -> None:
    house.rules(lambda text: text + APART)
    house.issued("second-operator", "operator")
    invite = {"principal": "second-operator", "role": "operator", "roles": ["night-operator"]}
    early = house.ask("POST", "/v1/invitations", "custodian", invite, expect=201)  # nothing speaks against it yet
    house.ask("POST", "/v1/people/{person}/roles", "custodian", {"give": ["keeper"]}, ref="second-operator", expect=200)
    status, answer = house.ask("POST", "/v1/invitations", "custodian", invite)
    assert (status, answer["code"]) == (409, "separation_of_duties")
    status, answer = _enrol(house, early["token"])
    assert (status, answer["code"]) == (409, "separation_of_duties")
    person = house.ask("GET", "/v1/people/{person}", "auditor", ref="second-operator", expect=200)
    assert person["roles"] == ["keeper"]
    house.ask("POST", "/v1/people/{person}/roles", "custodian", {"take": ["keeper"]}, ref="second-operator", expect=200)
    assert _enrol(house, early["token"])[0] == 201
    person = house.ask("GET", "/v1/people/{person}", "auditor", ref="second-operator", expect=200)
    assert person["roles"] == ["night-operator"]


@pytest.mark.requirement("R10", "R15")
def test_elevations_of_others_are_seen_and_ended_by_whom_one_is_sure_of_alone(house: House) -> None:
    house.ask("POST", "/v1/eligibilities", "custodian", {"principal": "clinician", "role": "operator"}, expect=201)
    house.ask("POST", "/v1/elevations", house.person, {"role": "operator", "reason": "incident"}, expect=201)
    running = _running(house)
    house.rules(lambda text: text.replace("auditor = 1", "auditor = 2"))
    for method, path, ref in (("GET", "/v1/elevations", ""), ("POST", "/v1/elevations/{elevation}/end", running)):
        status, answer = house.ask(method, path, "auditor", ref=ref)
        assert (status, answer["code"]) == (403, "assurance_required"), path
    calm = '@id("calm")\nforbid(principal in Role::"custodian", action == Action::"elevation-end", resource);\n'
    house.policy("calm.cedar", calm)
    assert house.ask("POST", "/v1/elevations/{elevation}/end", "custodian", ref=running)[0] == 403
    assert _running(house) == running
    house.ask("POST", "/v1/elevations/{elevation}/end", house.person, ref=running, expect=200)  # one's own, always
