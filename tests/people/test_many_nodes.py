"""What one request begins and another ends, at two nodes: either may end it, a restart loses nothing, and only one of all ends it."""

from __future__ import annotations

import base64
import itertools
import secrets
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pyotp
import pytest

from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import Refused, Sealed
from keyclave.operations.elevation.upkeep import keep_elevations
from keyclave.operations.people import ceremonies, cli_login
from keyclave.store import moments
from tests.authenticator import Passkey
from tests.nodes import Node, Pair, open_pair
from tests.protocols.every import wrapped_for
from tests.visitor import Visitor, origin_of

pytestmark = pytest.mark.requirement("R15", "R30")
PASSWORD = "seven lanterns on the quay"
_number = itertools.count(1)

Second = tuple[str, str | None, dict[str, Any]]
"""Path, token and body of the request that ends what was begun."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with open_pair(tmp_path_factory.mktemp("nodes")) as made:
        yield made


@pytest.fixture
def somebody(pair: Pair) -> Visitor:
    return pair.person(f"somebody-{next(_number)}")


# ---- each way that takes two requests --------------------------------------------------------------------------------------------
def login(_pair: Pair, who: Visitor) -> Second:
    return "/v1/login/passkey/finish", None, who.login_request()


def login_by_name(_pair: Pair, who: Visitor) -> Second:
    return "/v1/login/passkey/finish", None, who.login_request(who.name)


def step_up(_pair: Pair, who: Visitor) -> Second:
    token = who.login()
    return "/v1/step-up/passkey/finish", token, who.step_up_request(token)


def enrol_passkey(_pair: Pair, who: Visitor) -> Second:
    token, device = who.login(), Passkey(origin_of(who.live))
    begun = who.live.post("/v1/authenticators/passkey/begin", token).json()
    made = device.create(begun["publicKey"])
    return "/v1/authenticators/passkey/finish", token, {"ceremony": begun["ceremony"], "credential": made}


def enrol_key(_pair: Pair, who: Visitor) -> Second:
    token = who.login()
    return "/v1/authenticators/key", token, who.key_request(token)


def enrol_generator(pair: Pair, who: Visitor) -> Second:
    token = who.login()
    begun = who.live.post("/v1/authenticators/totp/begin", token).json()
    code = pyotp.TOTP(begun["seed"]).at(pair.clock.now() // MICROSECONDS)
    return "/v1/authenticators/totp/finish", token, {"ceremony": begun["ceremony"], "code": code}


def code_after_password(pair: Pair, who: Visitor) -> Second:
    token = who.login()
    begun = who.live.post("/v1/authenticators/totp/begin", token).json()
    generator = pyotp.TOTP(begun["seed"])
    body = {"ceremony": begun["ceremony"], "code": generator.at(pair.clock.now() // MICROSECONDS)}
    assert who.live.post("/v1/authenticators/totp/finish", token, body).status_code == 201
    assert who.live.post("/v1/authenticators/password", token, {"password": PASSWORD}).status_code == 201
    pair.clock.pass_by(30)
    asked = who.live.post("/v1/login/password", body={"principal": who.name, "password": PASSWORD}).json()
    return "/v1/login/totp", None, {"ceremony": asked["ceremony"], "code": generator.at(pair.clock.now() // MICROSECONDS)}


def command_line(_pair: Pair, who: Visitor) -> Second:
    verifier = secrets.token_urlsafe(32)
    challenge = base64.urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
    asked = {"port": 8085, "state": secrets.token_urlsafe(32), "challenge": challenge}
    redirect = who.live.post("/v1/login/cli/grant", who.login(), asked).json()["redirect"]
    return "/v1/login/cli/token", None, {"code": dict(parse_qsl(urlsplit(redirect).query))["code"], "verifier": verifier}


def machine(pair: Pair, who: Visitor) -> Second:
    """The machine begins at one node, its person says yes at the other."""
    address = f"198.51.100.{next(_number) % 250}"
    begun = who.live.post("/v1/login/device", address=address).json()  # type: ignore[call-arg]
    there = pair.one if who.live is pair.other else pair.other
    token = who.login()
    seen = there.post("/v1/login/device/look", token, {"user_code": begun["user_code"]}).json()
    assert (seen["address"], seen["user_code"]) == (address, begun["user_code"])
    assert there.post("/v1/login/device/grant", token, {"user_code": begun["user_code"], "allow": True}).status_code == 200
    return "/v1/login/device/token", None, {"device_code": begun["device_code"]}


def importing(_pair: Pair, who: Visitor) -> Second:
    parameters = who.live.post("/v1/import/parameters", "custodian").json()
    name = f"imported-{next(_number)}"
    body = {"name": name, "owner": "o", "token": parameters["token"], **wrapped_for(parameters["wrapping_key"], bytes(32))}
    return "/v1/keys/import", "custodian", body


WAYS: list[Callable[[Pair, Visitor], Second]] = [
    login, login_by_name, step_up, enrol_passkey, enrol_key, enrol_generator, code_after_password, command_line, machine,
    importing,
]  # fmt: skip


def won(answer: httpx.Response) -> bool:
    return answer.status_code in (200, 201) and answer.json().get("status", "granted") == "granted"


def refused(answer: httpx.Response) -> bool:
    """Refused as what was used before, not for a fault: the machine's question alone has an answer for it."""
    return answer.status_code in (400, 401, 403) or (answer.status_code == 200 and answer.json().get("status") == "expired_token")


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_one_node_began_the_other_ends_and_nobody_ends_again(
    pair: Pair, somebody: Visitor, way: Callable[[Pair, Visitor], Second]
) -> None:
    somebody.live = pair.one  # type: ignore[assignment]
    second = way(pair, somebody)
    ended = pair.other.post(*second)
    assert won(ended), ended.text
    for node in (pair.one, pair.other):
        again = node.post(*second)
        assert refused(again), again.text


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_restart_between_the_halves_loses_nothing_and_forgives_nothing(
    pair: Pair, somebody: Visitor, way: Callable[[Pair, Visitor], Second]
) -> None:
    somebody.live = pair.one  # type: ignore[assignment]
    second = way(pair, somebody)
    pair.one.restart()
    ended = pair.one.post(*second)
    assert won(ended), ended.text
    pair.one.restart()
    pair.other.restart()
    for node in (pair.one, pair.other):
        again = node.post(*second)
        assert refused(again), again.text


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_of_two_nodes_that_end_it_at_once_one_does(pair: Pair, somebody: Visitor, way: Callable[[Pair, Visitor], Second]) -> None:
    for begun_at in (pair.one, pair.other):
        somebody.live = begun_at  # type: ignore[assignment]
        path, token, body = way(pair, somebody)
        answers = pair.both(lambda node: node.ask("POST", path, token, body))  # noqa: B023 - asked before the next turn
        assert [won(answer) for answer in answers].count(True) == 1, [answer.text for answer in answers]
        if 409 in [answer.status_code for answer in answers]:  # what it rests on was changed meanwhile: it may ask again, in vain
            answers = [pair.one.post(path, token, body), *(answer for answer in answers if answer.status_code != 409)]
        assert [refused(answer) for answer in answers].count(True) == 1, [answer.text for answer in answers]
        if way in (code_after_password, enrol_generator):
            pair.clock.pass_by(60)  # a code counts once


# ---- what a ceremony is ----------------------------------------------------------------------------------------------------------
def test_a_ceremony_written_otherwise_is_none(pair: Pair, somebody: Visitor) -> None:
    """base64 leaves bits over: the same bytes could be written in several ways, and what was finished is known by its text."""
    somebody.live = pair.one  # type: ignore[assignment]
    for _ in range(3):  # some lengths leave no bits over
        path, token, body = command_line(pair, somebody)
        assert won(pair.other.post(path, token, body))
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        for last in letters:
            answer = pair.other.post(path, token, {**body, "code": body["code"][:-1] + last})
            assert answer.status_code == 403, answer.text


def test_a_ceremony_tells_nothing_and_no_bit_of_it_can_be_changed(pair: Pair) -> None:
    room, now = pair.one.desk.people.ceremonies, pair.clock.now()
    text = room.begin(cli_login.KIND, now, tenant="ten_x", principal="ann", subject="ses_x", held="challenge")
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    for told in (b"ann", b"ses_x", b"challenge", b"cli"):
        assert told not in raw
    assert pair.other.desk.people.ceremonies.read(text, cli_login.KIND, now).principal == "ann"
    for at in range(len(raw)):
        changed = bytearray(raw)
        changed[at] ^= 1
        with pytest.raises(Refused):
            room.read(base64.urlsafe_b64encode(changed).decode().rstrip("="), cli_login.KIND, now)


def test_beginning_writes_nothing(pair: Pair, somebody: Visitor) -> None:
    before = pair.one.store.next_event, pair.one.count("ceremonies"), pair.one.count("moments")
    for _ in range(50):
        assert pair.one.post("/v1/login/passkey/begin", body={"principal": somebody.name}).status_code == 200
    assert (pair.one.store.next_event, pair.one.count("ceremonies"), pair.one.count("moments")) == before


# ---- while a node is sealed ------------------------------------------------------------------------------------------------------
def test_people_log_in_at_sealed_nodes_and_only_there_with_what_was_begun_there(pair: Pair, somebody: Visitor) -> None:
    somebody.live = pair.one  # type: ignore[assignment]
    try:
        pair.one.seal()
        begun_sealed = login(pair, somebody)
        answer = pair.other.post(
            *begun_sealed
        )  # whoever reads the database could have made it: an open node believes its own only
        assert (answer.status_code, answer.json()["detail"]) == (403, "this ceremony is over")
        somebody.live = pair.other  # type: ignore[assignment]
        begun_open = login(pair, somebody)
        assert pair.one.post(*begun_open).json()["code"] == "sealed"
        assert won(pair.other.post(*begun_open))
        somebody.live = pair.one  # type: ignore[assignment]
        pair.other.seal()
        begun_sealed = login(pair, somebody)
        assert won(pair.other.post(*begun_sealed))
        assert refused(pair.one.post(*begun_sealed))
    finally:
        pair.one.restart()
        pair.other.restart()


def test_what_no_device_signs_is_ended_by_the_sealed_process_that_began_it(pair: Pair) -> None:
    one, other, now = pair.one.desk.people.ceremonies, pair.other.desk.people.ceremonies, pair.clock.now()
    open_text = one.begin(cli_login.KIND, now, principal="ann")
    try:
        pair.one.seal()
        pair.other.seal()
        with pytest.raises(Sealed):
            other.read(open_text, cli_login.KIND, now)
        text = one.begin(cli_login.KIND, now, principal="ann")
        assert one.read(text, cli_login.KIND, now).principal == "ann"
        with pytest.raises(Refused):
            other.read(text, cli_login.KIND, now)
        signed = one.begin("login", now, principal="ann")
        assert other.read(signed, "login", now).principal == "ann"
        with pytest.raises(Refused):  # the byte that says what sealed it is sealed too
            other.read(_under(signed, ceremonies.ALONE), "login", now)
        for kind in ("cli", "login-code", "sign-on", "enrol-totp"):
            assert kind not in ceremonies.SIGNED
            assert _first(one.begin(kind, now)) == ceremonies.ALONE
    finally:
        pair.one.restart()
        pair.other.restart()
    assert _first(pair.one.desk.people.ceremonies.begin("login", now)) == ceremonies.HOUSE


def _first(text: str) -> int:
    return base64.urlsafe_b64decode(text[:4])[0]


def _under(text: str, under: int) -> str:
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return base64.urlsafe_b64encode(bytes((under,)) + raw[1:]).decode().rstrip("=")


# ---- machines and imports --------------------------------------------------------------------------------------------------------
def test_few_machines_wait_from_one_place_whichever_node_they_come_to(pair: Pair) -> None:
    place = "203.0.113.7"
    found = [node.post("/v1/login/device", address=place).status_code for node in (pair.one, pair.other) * 4]
    assert found == [200] * 8
    events = pair.one.entries()
    assert [node.post("/v1/login/device", address=place).status_code for node in (pair.one, pair.other)] == [429, 429]
    assert len(pair.one.entries()) == len(events)  # what is refused leaves nothing
    assert pair.one.post("/v1/login/device", address="203.0.113.8").status_code == 200


def test_a_machine_is_let_in_or_turned_away_by_the_first_who_decides(pair: Pair, somebody: Visitor) -> None:
    begun = pair.one.post("/v1/login/device", address="203.0.113.20").json()
    token = somebody.login()
    asked = {"user_code": begun["user_code"]}
    answers = pair.both(lambda node: node.ask("POST", "/v1/login/device/grant", token, {**asked, "allow": node is pair.one}))
    assert sorted(answer.status_code for answer in answers) == [200, 404]
    allowed = answers[0].status_code == 200
    told = pair.other.post("/v1/login/device/token", body={"device_code": begun["device_code"]}).json()
    assert told["status"] == ("granted" if allowed else "access_denied")


def test_a_machine_whose_person_logged_out_is_refused_once_and_then_forgotten(pair: Pair, somebody: Visitor) -> None:
    begun = pair.one.post("/v1/login/device", address="203.0.113.21").json()
    token = somebody.login()
    assert pair.one.post("/v1/login/device/grant", token, {"user_code": begun["user_code"], "allow": True}).status_code == 200
    assert pair.other.post("/v1/logout", token).status_code == 200
    body = {"device_code": begun["device_code"]}
    assert pair.one.post("/v1/login/device/token", body=body).status_code == 401
    assert pair.other.post("/v1/login/device/token", body=body).json()["status"] == "expired_token"


def test_an_import_that_fails_has_used_its_token_up_everywhere(pair: Pair) -> None:
    parameters = pair.one.post("/v1/import/parameters", "custodian").json()
    good = wrapped_for(parameters["wrapping_key"], bytes(32))
    body = {"name": f"imported-{next(_number)}", "owner": "o", "token": parameters["token"]}
    for wrong in ({"wrapped": base64.b64encode(bytes(552)).decode()},):
        answer = pair.other.post("/v1/keys/import", "custodian", {**body, **wrong})
        assert answer.status_code == 400, answer.text
        assert answer.json()["code"] == "undecipherable"
        assert answer.json()["event"]
    for node in (pair.one, pair.other):
        assert node.post("/v1/keys/import", "custodian", {**body, **good}).json()["code"] == "malformed"


def test_the_private_key_of_an_import_is_nowhere_readable_and_goes_with_its_use(pair: Pair, somebody: Visitor) -> None:
    somebody.live = pair.one  # type: ignore[assignment]
    second = importing(pair, somebody)
    name = sha256(second[2]["token"].encode()).digest()
    kept = pair.one.store.read(lambda conn: moments.find_moment(conn, "import", name, pair.clock.now()))
    assert kept is not None
    rsa = bytes.fromhex("06092a864886f70d010101")  # what every PKCS #8 of RSA says of itself
    assert rsa not in kept.held
    assert len(kept.held) > 2300  # the key is in it all the same
    assert won(pair.other.post(*second))
    assert pair.one.store.read(lambda conn: moments.find_moment(conn, "import", name, pair.clock.now())) is None


# ---- failures --------------------------------------------------------------------------------------------------------------------
def test_whoever_guesses_from_node_to_node_is_slowed_down_like_whoever_stays(pair: Pair, somebody: Visitor) -> None:
    def guess(node: Node, address: str = "198.51.100.251") -> int:
        return node.post(
            "/v1/login/password", body={"principal": somebody.name, "password": "wrong"}, address=address
        ).status_code

    found = [guess(node) for node in (pair.one, pair.other, pair.one, pair.other, pair.one)]
    assert found == [401] * 5
    assert [guess(pair.one), guess(pair.other)] == [429, 429]  # neither of them has seen five alone
    pair.other.restart()
    assert guess(pair.other) == 429
    assert guess(pair.other, "198.51.100.252") == 401  # nobody is delayed by what comes from elsewhere
    pair.clock.pass_by(3600)
    assert guess(pair.other) == 401


def test_a_proof_takes_the_failures_back_at_every_node(pair: Pair, somebody: Visitor) -> None:
    somebody.live = pair.one  # type: ignore[assignment]
    second = code_after_password(pair, somebody)
    wrong = {"principal": somebody.name, "password": "wrong"}
    for node in (pair.one, pair.other, pair.one):
        assert node.post("/v1/login/password", body=wrong).status_code == 401
    assert won(pair.other.post(*second))
    found = [node.post("/v1/login/password", body=wrong).status_code for node in (pair.other, pair.one, pair.other)]
    assert found == [401] * 3


# ---- sessions --------------------------------------------------------------------------------------------------------------------
def keep_seen(node: Node) -> None:
    from keyclave.app.wiring import keep_seen

    keep_seen(node.store, node.desk)


def test_a_session_is_idle_only_if_it_was_at_no_node(pair: Pair, somebody: Visitor) -> None:
    token = somebody.login()
    assert pair.one.get("/v1/whoami", token).status_code == 200
    assert pair.other.get("/v1/whoami", token).status_code == 200
    keep_seen(pair.one)
    keep_seen(pair.other)
    for _ in range(4):  # it lives for a quarter of an hour without a request: two thirds of that at one node alone
        pair.clock.pass_by(600)
        assert pair.one.get("/v1/whoami", token).status_code == 200
        assert pair.one.desk.callers.seen_is_due  # others should know
        keep_seen(pair.one)
        assert not pair.one.desk.callers.seen_is_due
    assert pair.other.get("/v1/whoami", token).status_code == 200  # it saw the last request 40 minutes ago
    pair.clock.pass_by(901)
    assert [node.get("/v1/whoami", token).status_code for node in (pair.one, pair.other)] == [401, 401]


def test_a_session_that_was_revoked_does_not_come_back_by_looking_again(pair: Pair, somebody: Visitor) -> None:
    token = somebody.login()
    assert pair.other.get("/v1/whoami", token).status_code == 200
    pair.clock.pass_by(600)
    assert pair.one.get("/v1/whoami", token).status_code == 200
    keep_seen(pair.one)
    assert pair.one.post("/v1/logout", token).status_code == 200
    pair.clock.pass_by(400)
    assert pair.other.get("/v1/whoami", token).status_code == 401


def test_an_older_use_does_not_replace_a_newer_one(pair: Pair, somebody: Visitor) -> None:
    token = somebody.login()
    session = pair.one.get("/v1/whoami", token).json()["credential"]
    for node in (pair.other, pair.one):
        pair.clock.pass_by(60)
        assert node.get("/v1/whoami", token).status_code == 200
    newest = pair.clock.now()
    keep_seen(pair.one)
    keep_seen(pair.other)
    from keyclave.store.access import sessions

    assert pair.one.store.read(lambda conn: sessions.read_seen(conn, session)) == newest


def test_uses_that_the_store_did_not_take_are_written_the_next_time(pair: Pair, somebody: Visitor) -> None:
    token = somebody.login()
    session = pair.one.get("/v1/whoami", token).json()["credential"]
    pair.clock.pass_by(20)
    assert pair.one.get("/v1/whoami", token).status_code == 200
    taken = pair.one.desk.callers.take_seen()
    assert taken[session] == pair.clock.now()
    pair.one.desk.callers.put_back(taken)
    assert pair.one.desk.callers.take_seen()[session] == pair.clock.now()


# ---- by the clock ----------------------------------------------------------------------------------------------------------------
def test_what_is_over_is_tidied_away_and_what_is_not_stays(
    pair: Pair, somebody: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keyclave.app import wiring

    somebody.live = pair.one  # type: ignore[assignment]
    second = importing(pair, somebody)
    assert pair.one.post("/v1/login/device", address="203.0.113.40").status_code == 200
    used = login(pair, somebody)
    assert won(pair.one.post(*used))
    before = pair.one.count("moments"), pair.one.count("ceremonies")
    assert before[0] >= 2
    assert before[1] >= 1
    pair.clock.pass_by(601)
    wiring.keep_tidy(pair.other.store, pair.clock.now())
    assert 1 <= pair.one.count("moments") < before[0]  # the machine is gone, the import waits
    assert pair.one.count("ceremonies") >= 1  # longer than the ceremony itself: a node whose clock is behind still believes in it
    assert won(pair.other.post(*second))
    pair.clock.pass_by(2 * 3600)
    wiring.keep_tidy(pair.other.store, pair.clock.now())
    assert (pair.one.count("moments"), pair.one.count("ceremonies")) == (0, 0)
    monkeypatch.setattr(wiring, "tidy_moments", lambda *_: pytest.fail("there is nothing to tidy"))
    wiring.keep_tidy(pair.other.store, pair.clock.now())


# ---- what goes by the clock ------------------------------------------------------------------------------------------------------
def ended_elevation(pair: Pair, who: Visitor) -> str:
    """Keep an elevation whose time is over and which nobody has written down as ended."""
    from keyclave.identity.elevation import Elevation, Eligibility
    from keyclave.store.access import elevations

    now, number = pair.clock.now(), next(_number)
    me = pair.one.get("/v1/whoami", who.login()).json()
    eligibility = Eligibility(
        id=f"eli_{number}", tenant=me["tenant"], principal=who.name, role="operator", created_at=now - 9, created_by="c",
        expires_at=now + 9,
    )  # fmt: skip
    elevation = Elevation(
        id=f"elv_{number}", tenant=me["tenant"], principal=who.name, credential=me["credential"], role="operator", duty="operator",
        eligibility=eligibility.id, reason="r", started_at=now - 8, ends_at=now - 1,
    )  # fmt: skip
    pair.one.store.write(lambda conn: elevations.insert_eligibility(conn, eligibility))
    pair.one.store.write(lambda conn: elevations.insert_elevation(conn, elevation))
    return elevation.id


def ends_in_the_log(pair: Pair, elevation: str) -> int:
    entries = pair.one.entries()
    return sum(b'"elevation-end"' in entry and elevation.encode() in entry for entry in entries)


def test_what_goes_by_the_clock_is_written_down_by_one_node(pair: Pair, somebody: Visitor) -> None:
    elevation = ended_elevation(pair, somebody)
    found = [keep_elevations(node.desk) for node in (pair.one, pair.other, pair.one)]  # before either commits
    assert found == [1, 0, 0]
    for node in (pair.one, pair.other):
        node.store.flush()
        assert keep_elevations(node.desk) == 0
    assert ends_in_the_log(pair, elevation) == 1


def test_what_a_node_claimed_and_did_not_do_another_does(pair: Pair, somebody: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    elevation = ended_elevation(pair, somebody)
    monkeypatch.setattr(pair.one.store, "enqueue", lambda unit: 0)  # it dies between its claim and its commit
    assert keep_elevations(pair.one.desk) == 1
    pair.one.restart()
    assert keep_elevations(pair.other.desk) == 0
    pair.clock.pass_by(61)
    assert keep_elevations(pair.other.desk) == 1
    pair.other.store.flush()
    assert keep_elevations(pair.one.desk) == 0
    assert ends_in_the_log(pair, elevation) == 1
