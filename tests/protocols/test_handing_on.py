"""Logins handed on to a command line or a machine: only to who asked, once, never surer or longer than what they come from."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from keyclave.core.errors import LimitReached, Refused, Unauthenticated
from keyclave.identity.peer import Peer
from keyclave.operations.people import cli_login, devices
from keyclave.operations.people.devices import LETTERS
from keyclave.store.moments import count_waiting
from tests.live import Live
from tests.protocols.inside import Inside, inside
from tests.visitor import Visitor

pytestmark = pytest.mark.requirement("R30")
MINUTE = 60_000_000


@dataclass
class Waiting:
    """A command line that waits."""

    verifier: str
    state: str

    @property
    def asked(self) -> dict[str, Any]:
        digest = sha256(self.verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        return {"port": 8085, "state": self.state, "challenge": challenge}


def command_line() -> Waiting:
    return Waiting(secrets.token_urlsafe(32), secrets.token_urlsafe(32))


@pytest.fixture(scope="module")
def person(live: Live) -> Iterator[Visitor]:
    """Somebody with a passkey of level 3."""
    made = live.post("/v1/credentials", "custodian", {"principal": "handing-on", "role": "person", "ttl_seconds": 3600}).json()
    visitor = Visitor(live, "handing-on")
    assert visitor.enrol(made["token"]).status_code == 201
    yield visitor


def granted(live: Live, token: str, waiting: Waiting) -> dict[str, str]:
    answer = live.post("/v1/login/cli/grant", token, waiting.asked)
    assert answer.status_code == 200, answer.text
    parts = urlsplit(answer.json()["redirect"])
    assert (parts.scheme, parts.netloc, parts.path) == ("http", "127.0.0.1:8085", "/callback")
    return dict(parse_qsl(parts.query))


def trade(live: Live, code: str, verifier: str) -> httpx.Response:
    return live.post("/v1/login/cli/token", body={"code": code, "verifier": verifier})


# ---- the command line of this machine -------------------------------------------------------------------------------------------
def test_a_command_line_gets_a_session_of_its_own_no_surer_and_no_longer(live: Live, person: Visitor) -> None:
    token, waiting = person.login(), command_line()
    before = live.get("/v1/whoami", token).json()
    said = granted(live, token, waiting)
    assert said["state"] == waiting.state
    opened = trade(live, said["code"], waiting.verifier).json()
    assert opened["token"].startswith("kcs_")
    assert opened["token"] != token
    after = live.get("/v1/whoami", opened["token"]).json()
    assert after["credential"] != before["credential"]
    for name in ("principal", "aal", "how", "stepped_up_at", "expires_at"):
        assert after[name] == before[name], name
    assert live.post("/v1/logout", opened["token"]).json()["ended"] == 1
    assert live.get("/v1/whoami", token).status_code == 200  # the browser's goes on


def test_a_stolen_code_is_worth_nothing_without_the_verifier(live: Live, person: Visitor) -> None:
    waiting = command_line()
    said = granted(live, person.login(), waiting)
    for verifier in (secrets.token_urlsafe(32), waiting.asked["challenge"], "A" * 43):
        assert trade(live, said["code"], verifier).status_code == 401
    assert trade(live, said["code"], waiting.verifier).status_code == 200  # the thief did not spoil it


def test_a_code_counts_once(live: Live, person: Visitor) -> None:
    waiting = command_line()
    said = granted(live, person.login(), waiting)
    assert trade(live, said["code"], waiting.verifier).status_code == 200
    assert trade(live, said["code"], waiting.verifier).status_code == 403


def test_a_login_that_ended_meanwhile_hands_on_nothing(live: Live, person: Visitor) -> None:
    token, waiting = person.login(), command_line()
    said = granted(live, token, waiting)
    assert live.post("/v1/logout", token).status_code == 200
    assert trade(live, said["code"], waiting.verifier).status_code == 401


@pytest.mark.parametrize(
    "changes",
    [{"port": 80}, {"port": 70000}, {"port": "8085@elsewhere.example"}, {"state": "x&code=y"}, {"state": ""},
     {"challenge": "plain"}, {"redirect": "https://elsewhere.example"}],
)  # fmt: skip
def test_nothing_that_is_asked_leads_elsewhere(live: Live, person: Visitor, changes: dict[str, Any]) -> None:
    answer = live.post("/v1/login/cli/grant", person.login(), {**command_line().asked, **changes})
    assert answer.status_code == 400
    assert "elsewhere" not in answer.text


def test_a_bearer_credential_hands_nothing_on(live: Live) -> None:
    assert live.post("/v1/login/cli/grant", "custodian", command_line().asked).status_code == 403
    code = live.post("/v1/login/device").json()["user_code"]
    assert live.post("/v1/login/device/grant", "custodian", {"user_code": code, "allow": True}).status_code == 403


def test_a_ceremony_of_another_kind_is_no_code(live: Live) -> None:
    begun = live.post("/v1/login/passkey/begin").json()["ceremony"]
    assert trade(live, begun, secrets.token_urlsafe(32)).status_code == 403
    assert trade(live, "bm9uc2Vuc2U", secrets.token_urlsafe(32)).status_code == 403


# ---- a machine without a browser ---------------------------------------------------------------------------------------------
def poll(live: Live, begun: dict[str, Any]) -> dict[str, Any]:
    answer = live.post("/v1/login/device/token", body={"device_code": begun["device_code"]})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_machine_is_let_in_by_whoever_typed_its_code_and_gets_one_session_of_level_2(live: Live, person: Visitor) -> None:
    begun, token = live.post("/v1/login/device").json(), person.login()
    assert begun["verification_uri"] == f"https://localhost:{live.port}/ui/device"
    assert poll(live, begun)["status"] == "authorization_pending"
    typed = begun["user_code"].lower().replace("-", " ")
    seen = live.post("/v1/login/device/look", token, {"user_code": typed}).json()
    assert seen["address"] == "127.0.0.1"
    assert live.post("/v1/login/device/grant", token, {"user_code": typed, "allow": True}).status_code == 200
    opened = poll(live, begun)
    assert opened["status"] == "granted"
    who = live.get("/v1/whoami", opened["session"]["token"]).json()
    assert (who["principal"], who["aal"], who["how"]) == ("handing-on", 2, "passkey")
    assert poll(live, begun)["status"] == "expired_token"


def test_a_machine_that_is_turned_away_is_told_so(live: Live, person: Visitor) -> None:
    begun, token = live.post("/v1/login/device").json(), person.login()
    refused = {"user_code": begun["user_code"], "allow": False}
    assert live.post("/v1/login/device/grant", token, refused).status_code == 200
    assert live.post("/v1/login/device/grant", token, {**refused, "allow": True}).status_code == 404
    assert poll(live, begun)["status"] == "access_denied"


def test_a_machine_that_asks_too_often_is_slowed_down(live: Live) -> None:
    begun = live.post("/v1/login/device").json()
    assert [poll(live, begun)["status"] for _ in range(3)] == ["authorization_pending", "slow_down", "slow_down"]
    assert poll(live, begun)["interval"] > begun["interval"]


def test_the_persons_code_is_not_the_machines_and_the_reverse(live: Live, person: Visitor) -> None:
    begun = live.post("/v1/login/device").json()
    assert poll(live, {"device_code": begun["user_code"]})["status"] == "expired_token"
    answer = live.post("/v1/login/device/look", person.login(), {"user_code": begun["device_code"][:16]})
    assert answer.status_code in (400, 404)


def test_guessing_codes_is_slowed_down_after_five(own_live: Live) -> None:
    made = {"principal": "guesser", "role": "person", "ttl_seconds": 3600}
    visitor = Visitor(own_live, "guesser")
    visitor.enrol(own_live.post("/v1/credentials", "custodian", made).json()["token"])
    token = visitor.login()
    begun = own_live.post("/v1/login/device").json()
    wrong = "BBBB-BBBB" if begun["user_code"] != "BBBB-BBBB" else "CCCC-CCCC"
    found = [own_live.post("/v1/login/device/look", token, {"user_code": wrong}).status_code for _ in range(6)]
    assert found == [404] * 5 + [429]
    # while it lasts the right code is not looked at either: else guessing would only be slow
    assert own_live.post("/v1/login/device/look", token, {"user_code": begun["user_code"]}).status_code == 429


def test_few_machines_wait_from_one_place(own_live: Live) -> None:
    found = [own_live.post("/v1/login/device").status_code for _ in range(9)]
    assert found == [200] * 8 + [429]


# ---- by the clock --------------------------------------------------------------------------------------------------------------
@pytest.fixture
def server(tmp_path: Path) -> Iterator[Inside]:
    with inside(tmp_path) as made:
        yield made


def test_a_waiting_login_is_over_after_ten_minutes_and_its_place_is_free(server: Inside) -> None:
    devices, store, now = server.desk.people.devices, server.store, 1_000_000 * MINUTE

    def begin(name: bytes, address: str, at: int) -> str:
        return store.write(lambda conn: devices.begin(conn, sha256(name).digest(), address, at))

    code = begin(b"kcd_x", "10.0.0.1", now)
    found = store.read(lambda conn: devices.of_machine(conn, "kcd_x", now + 10 * MINUTE - 1))
    assert found is not None
    assert found == store.read(lambda conn: devices.of_person(conn, code, now + 10 * MINUTE - 1))
    assert store.read(lambda conn: devices.of_machine(conn, "kcd_x", now + 10 * MINUTE)) is None
    assert store.read(lambda conn: devices.of_person(conn, code, now + 10 * MINUTE)) is None
    for i in range(7):
        begin(b"%d" % i, "10.0.0.1", now)
    with pytest.raises(LimitReached):
        begin(b"kcd_y", "10.0.0.1", now + 10 * MINUTE - 1)
    begin(b"kcd_z", "10.0.0.2", now)  # another place has room of its own
    begin(b"kcd_y", "10.0.0.1", now + 10 * MINUTE)  # the first eight are over: there is room again


def test_however_many_wait_asking_counts_them_once_a_second_and_no_more_are_let_in(
    server: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines, store, now = server.desk.people.devices, server.store, 1_000_000 * MINUTE
    monkeypatch.setattr(devices, "_MOST", 64)
    counted: list[str | None] = []

    def counting(conn: Any, kind: str, now: int, owner: str | None = None) -> int:
        counted.append(owner)
        return count_waiting(conn, kind, now, owner)

    monkeypatch.setattr(devices, "count_waiting", counting)
    for i in range(64):
        store.write(lambda conn, i=i: machines.begin(conn, sha256(b"%d" % i).digest(), f"10.0.{i}.1", now))
    for i in range(40):
        with pytest.raises(LimitReached):
            store.read(lambda conn, i=i: machines.check_room(conn, f"10.1.{i}.1", now + i))
    assert counted.count(None) == 1
    with pytest.raises(LimitReached):
        store.read(lambda conn: machines.check_room(conn, "10.2.0.1", now + MINUTE))
    assert counted.count(None) == 2
    store.read(lambda conn: machines.check_room(conn, "10.2.0.1", now + 10 * MINUTE))  # those are over
    with pytest.raises(LimitReached):  # a clock that was set right: what was counted later is not known
        store.read(lambda conn: machines.check_room(conn, "10.2.0.1", now))
    assert counted.count(None) == 4


def test_codes_have_neither_vowels_nor_digits_and_every_letter_is_as_likely(server: Inside) -> None:
    devices = server.desk.people.devices
    codes = [devices.new_code() for _ in range(2000)]
    assert len(set(codes)) == 2000
    counted = {letter: "".join(codes).count(letter) for letter in LETTERS}
    assert set("".join(codes)) == set(LETTERS)
    assert not set(LETTERS) & set("AEIOU0123456789")
    assert max(counted.values()) < 1.3 * min(counted.values())  # 800 of each on average: 1.3 is nine deviations apart


def test_a_code_is_over_after_a_minute(server: Inside) -> None:
    room, now = server.desk.people, server.desk.clock.now()
    waiting = command_line()
    named = {"tenant": "t", "principal": "p", "subject": "ses_x", "held": waiting.asked["challenge"]}
    for seconds, refused in ((59, False), (61, True)):
        code = room.ceremonies.begin(cli_login.KIND, now - seconds * 1_000_000, **named)
        wrong = cli_login.CliLogin(code=code, verifier=secrets.token_urlsafe(32))
        with pytest.raises(Refused if refused else Unauthenticated):  # in time, only the verifier is wrong
            cli_login.exchange(server.desk, Peer("10.0.0.1"), wrong, lambda _attempt: None)
