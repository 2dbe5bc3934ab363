"""Sessions: how they end, by whom, that a stolen or planted token is worth nothing, and what disabling somebody does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keyclave.app.wiring import keep_seen
from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import Unauthenticated
from keyclave.identity.assurance import SessionLimits
from keyclave.operations.people.sessions import open_session
from keyclave.store.access import people
from tests.live import Live, launch
from tests.people.clock import Clock
from tests.protocols.inside import Inside, inside
from tests.visitor import Visitor

pytestmark = pytest.mark.requirement("R10", "R15", "R30")
Somebody = Callable[..., Visitor]
HOUR = 3600


# ---- the clock ----------------------------------------------------------------------------------------------------------------
class House:
    """A server in this process whose clock is set by hand."""

    def __init__(self, server: Inside) -> None:
        self.server, self.clock = server, Clock()
        server.desk.clock = server.desk.callers._clock = self.clock  # type: ignore[assignment]

    def open(self, aal: int, principal: str = "first-custodian") -> str:
        desk = self.server.desk

        def write(conn: Any) -> str:
            tenant = people.find_tenant(conn, "") or ""
            at = self.clock.now()
            return open_session(desk, conn, tenant, principal, aal=aal, how="passkey", at=at, source="test")[1]

        return self.server.store.write(write)

    def status(self, token: str) -> int:
        return self.server.ask("GET", "/v1/whoami", token)[0]


@pytest.fixture
def clocked(tmp_path: Path) -> Iterator[House]:
    with inside(tmp_path) as server:
        yield House(server)


@pytest.mark.parametrize(("aal", "idle"), [(2, 3600), (3, 900)])
def test_a_session_ends_when_nobody_uses_it(clocked: House, aal: int, idle: int) -> None:
    token = clocked.open(aal)
    for _ in range(3):
        clocked.clock.pass_by(idle - 1)
        assert clocked.status(token) == 200
    clocked.clock.pass_by(idle)
    assert clocked.status(token) == 401
    clocked.clock.pass_by(-1)
    assert clocked.status(token) == 200  # not a second sooner
    clocked.clock.pass_by(idle)
    assert [clocked.status(token), clocked.status(token)] == [401, 401]  # asking again does not revive it


@pytest.mark.parametrize(("aal", "hours"), [(2, 24), (3, 12)])
def test_a_session_ends_however_much_it_is_used(clocked: House, aal: int, hours: int) -> None:
    token = clocked.open(aal)
    for _ in range(hours * 6):
        assert clocked.status(token) == 200
        clocked.clock.pass_by(600)
    assert clocked.status(token) == 401


def test_a_restart_ends_an_idle_session_not_later_than_running_on(clocked: House) -> None:
    token = clocked.open(3)
    clocked.clock.pass_by(600)
    assert clocked.status(token) == 200
    keep_seen(clocked.server.store, clocked.server.desk)
    callers = clocked.server.desk.callers
    for held in (callers._by_digest, callers._idle, callers._seen):  # as if the process were new
        held.clear()
    clocked.clock.pass_by(899)
    assert clocked.status(token) == 200
    for held in (callers._by_digest, callers._idle, callers._seen):
        held.clear()
    clocked.clock.pass_by(2)  # the last use was never written: the store knows the one before
    assert clocked.status(token) == 401


def test_use_costs_no_write_and_what_is_noted_is_written_once(clocked: House) -> None:
    token = clocked.open(3)
    clocked.status(token)
    reads, size = clocked.server.reads, clocked.server.store.next_event
    for _ in range(20):
        clocked.server.desk.callers.authenticate(token.encode())
    assert (clocked.server.reads, clocked.server.store.next_event) == (reads, size)
    assert len(clocked.server.desk.callers.take_seen()) == 1
    assert clocked.server.desk.callers.take_seen() == {}


def test_configuration_only_shortens() -> None:
    import msgspec

    limits = msgspec.convert({"aal2_hours": 8, "aal3_idle_minutes": 5}, SessionLimits)
    assert (limits.ends(2, 0), limits.idle_seconds(3)) == (8 * HOUR * MICROSECONDS, 300)
    for longer in (
        {"aal2_hours": 25},
        {"aal3_hours": 13},
        {"aal2_idle_minutes": 61},
        {"aal3_idle_minutes": 16},
        {"aal3_hours": 0},
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(longer, SessionLimits)


# ---- tokens -------------------------------------------------------------------------------------------------------------------
def test_every_login_and_step_up_makes_a_new_token_and_a_step_up_kills_the_old_one(house: Live, somebody: Somebody) -> None:
    visitor = somebody()
    first, second = visitor.login(), visitor.login()
    assert first != second
    raised = visitor.step_up(first)
    assert raised not in (first, second)
    assert [house.get("/v1/whoami", token).status_code for token in (first, second, raised)] == [401, 200, 200]


def test_a_step_up_begun_in_one_session_does_not_raise_another(house: Live, somebody: Somebody) -> None:
    visitor = somebody()
    planted, own = visitor.login(), visitor.login()
    body = visitor.step_up_request(planted)
    assert house.post("/v1/step-up/passkey/finish", own, body).status_code == 403
    assert house.get("/v1/whoami", own).status_code == 200


def test_a_step_up_takes_the_callers_own_passkey_only(house: Live, somebody: Somebody) -> None:
    ann, bob = somebody(), somebody()
    token = ann.login()
    begun = house.post("/v1/step-up/passkey/begin", token).json()
    body = {"ceremony": begun["ceremony"], "credential": bob.passkey.get(begun["publicKey"])}
    assert house.post("/v1/step-up/passkey/finish", token, body).status_code == 403


def test_a_token_is_worth_nothing_after_logout(house: Live, somebody: Somebody) -> None:
    visitor = somebody()
    token, other = visitor.login(), visitor.login()
    assert house.post("/v1/logout", token).json()["ended"] == 1
    assert [house.get("/v1/whoami", t).status_code for t in (token, other)] == [401, 200]
    assert house.post("/v1/logout", "custodian").status_code == 403  # a bearer credential is no session


def test_one_sees_and_ends_ones_own_sessions_and_nobody_elses(house: Live, somebody: Somebody) -> None:
    ann, bob = somebody(), somebody()
    token, stolen, foreign = ann.login(), ann.login(), bob.login()
    shown = house.get("/v1/sessions", token).json()["sessions"]
    assert {one["principal"] for one in shown} == {ann.name}
    assert [one["current"] for one in shown].count(True) == 1
    ids = {t: house.get("/v1/whoami", t).json()["credential"] for t in (stolen, foreign)}
    nothing = "ses_" + "a" * 26
    answers = [house.post(f"/v1/sessions/{one}/revoke", token).json() for one in (ids[foreign], nothing)]
    assert [{**answer, "event": ""} for answer in answers] == [{**answers[0], "event": ""}] * 2
    assert house.post(f"/v1/sessions/{ids[foreign]}/revoke", token).status_code == 404
    assert house.post(f"/v1/sessions/{ids[stolen]}/revoke", token).status_code == 200
    assert [house.get("/v1/whoami", t).status_code for t in (token, stolen, foreign)] == [200, 401, 200]
    assert house.get("/v1/sessions", token, params={"principal": "*"}).status_code == 403
    assert house.post(f"/v1/people/{bob.name}/end-sessions", token).status_code == 403


def test_operators_see_and_end_anybodys(house: Live, somebody: Somebody) -> None:
    visitor = somebody()
    tokens = [visitor.login() for _ in range(3)]
    shown = house.get("/v1/sessions", "operator", params={"principal": visitor.name}).json()["sessions"]
    assert len(shown) == 4  # with the one that enrolled
    assert house.post(f"/v1/people/{visitor.name}/end-sessions", "operator", {"reason": "lost laptop"}).json()["ended"] == 4
    assert [house.get("/v1/whoami", token).status_code for token in tokens] == [401, 401, 401]


# ---- disabling ----------------------------------------------------------------------------------------------------------------
def test_disabling_somebody_ends_everything_at_once_and_enabling_revives_no_session(house: Live, somebody: Somebody) -> None:
    visitor = somebody()
    token = visitor.login()
    assert house.get("/v1/whoami", token).status_code == 200
    assert house.post(f"/v1/people/{visitor.name}/disable", "operator", {"reason": "left"}).status_code == 200
    assert house.get("/v1/whoami", token).status_code == 401
    assert (visitor.try_login().status_code, visitor.try_login(visitor.name).status_code) == (401, 401)
    assert house.post(f"/v1/people/{visitor.name}/enable", "operator").status_code == 403
    assert house.post(f"/v1/people/{visitor.name}/enable", "custodian").status_code == 200
    assert house.get("/v1/whoami", token).status_code == 401
    assert visitor.try_login().status_code == 200


def test_a_bearer_credential_of_somebody_disabled_is_taken_no_more(own_live: Live) -> None:
    assert own_live.get("/v1/whoami", "auditor").status_code == 200
    assert own_live.post("/v1/people/first-auditor/disable", "custodian").status_code == 200
    assert own_live.get("/v1/whoami", "auditor").status_code == 401
    own_live.kill()
    own_live.restart()
    assert own_live.get("/v1/whoami", "auditor").status_code == 401


def test_nobody_disables_enables_or_promotes_themselves(house: Live) -> None:
    for path, body in (("disable", {}), ("enable", {}), ("roles", {"take": ["x"]})):
        answer = house.post(f"/v1/people/first-custodian/{path}", "custodian", body)
        assert (answer.status_code, answer.json()["code"]) == (409, "separation_of_duties"), path


def test_a_login_that_races_with_disabling_gets_no_session(tmp_path: Path) -> None:
    with inside(tmp_path) as server:
        house = House(server)
        token = house.open(3, "first-auditor")
        assert house.status(token) == 200
        gateway, store = server.gateway, server.store
        answers: list[int] = []
        from keyclave.identity.peer import Peer
        from keyclave.protocols.rest.gateway import Head
        from tests.protocols.inside import BY_PATH

        def submit(method: str, path: str, credential: str, ref: str = "") -> None:
            head = Head()
            head.authorization = b"Bearer " + credential.encode()
            content: Any = {} if method == "GET" else b"{}"
            op = BY_PATH[method, path]
            gateway.submit(op, ref, head, content, Peer("test"), lambda status, *_: answers.append(status))

        submit("POST", "/v1/people/{person}/disable", server.tokens["custodian"], "first-auditor")
        submit("GET", "/v1/whoami", token)  # the disabling waits for its commit: this must not slip through
        store.flush()
        assert answers == [200, 401]


def test_a_session_of_somebody_disabled_is_no_session_whatever_its_row_says(clocked: House) -> None:
    token, desk = clocked.open(3, "first-auditor"), clocked.server.desk

    def disable(conn: Any) -> None:
        people.set_disabled(conn, people.find_tenant(conn, "") or "", "first-auditor", clocked.clock.now())

    clocked.server.store.write(disable)
    assert clocked.status(token) == 401
    with pytest.raises(Unauthenticated):
        clocked.open(3, "first-auditor")
    assert desk.callers.take_seen() == {}


# ---- what policy asks ---------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    server = launch(tmp_path_factory.mktemp("strict"), "--development", "--people", "passkeys", unseal=False)
    yield server
    server.stop()


def test_where_passkeys_are_asked_a_bearer_token_begins_an_enrolment_and_nothing_else(strict: Live) -> None:
    refused = strict.post("/v1/keys", "custodian", {"name": "k", "owner": "o"})
    assert (refused.status_code, refused.json()["code"]) == (403, "assurance_required")
    assert strict.get("/v1/whoami", "custodian").json()["aal"] == 1
    visitor = Visitor(strict, "first-custodian")
    assert visitor.enrol(strict.tokens["custodian"]).status_code == 201
    again = strict.post("/v1/authenticators/passkey/begin", "custodian")
    assert (again.status_code, again.json()["code"]) == (403, "assurance_required")
    created = strict.post("/v1/keys", visitor.login(), {"name": "k", "owner": "o"})
    assert created.status_code == 201, created.text
    assert strict.get("/v1/status").json()["people"] == "passkeys"


def test_what_is_done_to_others_asks_for_assurance_even_where_ones_own_does_not(strict: Live) -> None:
    for method, path in (
        ("GET", "/v1/sessions?principal=*"), ("GET", "/v1/authenticators?principal=first-auditor"),
        ("POST", "/v1/people/first-auditor/end-sessions"),
    ):  # fmt: skip
        body = {"json": {}} if method == "POST" else {}
        assert strict.request(method, path, "operator", **body).json()["code"] == "assurance_required", path
    assert strict.get("/v1/sessions", "operator").status_code == 200


# ---- cookies ------------------------------------------------------------------------------------------------------------------
def test_a_page_gets_its_session_as_a_cookie_that_no_script_reads(house: Live, somebody: Somebody) -> None:
    visitor = somebody()
    answer = house.post(
        "/v1/login/passkey/finish", body={**visitor.login_request(), "cookie": True}, headers={"origin": visitor.passkey.origin}
    )
    assert "token" not in answer.json()
    name, _, rest = answer.headers["set-cookie"].partition("=")
    value, _, attributes = rest.partition("; ")
    assert (name, value[:4]) == ("__Host-keyclave", "kcs_")
    assert set(attributes.split("; ")) == {"Path=/", "Secure", "HttpOnly", "SameSite=Strict"}
    assert house.get("/v1/whoami", value).json()["principal"] == visitor.name
