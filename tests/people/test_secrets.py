"""Passwords, one-time codes and recovery codes: what can be guessed, used twice, raced for, or told apart."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyotp
import pytest

from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import LimitReached, Malformed, Refused, Unauthenticated
from keyclave.crypto import passwords
from keyclave.identity import one_time_codes
from keyclave.identity.password_rules import blocked, check_new_password
from keyclave.identity.peer import Peer
from keyclave.operations.attempt import Attempt
from keyclave.operations.people import login, login_secrets
from keyclave.operations.people.login_secrets import CodeLogin, PasswordLogin, RecoveryLogin
from keyclave.operations.people.webauthn_forms import PasskeyProof
from keyclave.store.access import people
from tests.authenticator import Passkey
from tests.homes import on_postgresql
from tests.people.clock import Clock
from tests.protocols.inside import Inside, inside

pytestmark = pytest.mark.requirement("R10", "R15", "R30")
PASSWORD = "seven lanterns on the quay"
ANN = "first-custodian"


class House:
    """A server in this process whose first custodian has a password, a code generator and recovery codes."""

    def __init__(self, server: Inside) -> None:
        self.server = server
        self.clock = Clock()
        desk = server.desk
        desk.clock = server.desk.callers._clock = desk.people.lockout._clock = desk.people._clock = self.clock  # type: ignore[assignment]
        self.session = self.enrolling()
        begun = self.post("/v1/authenticators/totp/begin")
        self.totp = pyotp.TOTP(begun["seed"])
        self.post("/v1/authenticators/totp/finish", ceremony=begun["ceremony"], code=self.code())
        self.post("/v1/authenticators/password", password=PASSWORD)
        self.codes: list[str] = self.post("/v1/authenticators/recovery")["codes"]
        self.clock.pass_by(30)

    def enrolling(self) -> str:
        """Open a session that may enrol, as an invitation would."""
        from keyclave.operations.people.sessions import open_session

        desk, tenant = self.server.desk, self.tenant()

        def write(conn: Any) -> str:
            at = self.clock.now()
            return open_session(
                desk, conn, tenant, ANN, aal=1, how="invitation", at=at, source="test", enrolling=True
            )[1]  # fmt: skip

        return self.server.store.write(write)

    def tenant(self) -> str:
        return str(self.server.store.read(lambda conn: people.find_tenant(conn, "")))

    def code(self, steps: int = 0) -> str:
        return self.totp.at(self.clock.now() // MICROSECONDS + 30 * steps)

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = self.raw(path, **body)
        assert answer[0] in (200, 201), answer
        return answer[1]

    def raw(self, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        found: list[tuple[int, bytes]] = []
        from keyclave.protocols.rest.gateway import Head
        from tests.protocols.inside import BY_PATH

        head = Head()
        head.authorization = b"Bearer " + self.session.encode()
        content = json.dumps(body).encode()
        self.server.gateway.submit(
            BY_PATH["POST", path], "", head, content, Peer("test"), lambda s, k, text, more: found.append((s, text))
        )
        self.server.desk.workers.submit(lambda: None).result()
        self.server.store.flush()
        return found[0][0], json.loads(found[0][1])

    def ask(self, verb: Callable[..., None], request: Any, address: str = "192.0.2.1") -> Attempt:
        """Do a half of a login and return its attempt, once it is durable; what is raised is raised."""
        done: list[Attempt] = []
        verb(self.server.desk, Peer(address), request, done.append)
        deadline = time.monotonic() + 20
        while not done and time.monotonic() < deadline:
            self.server.store.flush()
            time.sleep(0.001)  # between two looks at a condition
        return done[0]

    def login(self, password: str = PASSWORD, name: str = ANN, address: str = "192.0.2.1") -> Attempt:
        return self.ask(login_secrets.password, PasswordLogin(principal=name, password=password), address)

    def ceremony(self) -> str:
        attempt = self.login()
        assert attempt.error is None
        return str(attempt.answer.ceremony)

    def give(self, ceremony: str, code: str, address: str = "192.0.2.1") -> Attempt:
        return self.ask(login_secrets.code, CodeLogin(ceremony=ceremony, code=code), address)

    def authenticators(self) -> list[Any]:
        tenant = self.tenant()
        return list(self.server.store.read(lambda conn: people.list_authenticators(conn, tenant, ANN)))

    def authenticator(self, kind: str) -> Any:
        return [one for one in self.authenticators() if one.kind == kind][-1]


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of guesses are about who is heard, not about what a hash costs: tests/unit/crypto has the real ones."""
    monkeypatch.setattr(passwords, "_MEMORY_KIB", 64)
    monkeypatch.setattr(passwords, "_PASSES", 1)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with inside(tmp_path) as server:
        yield House(server)


# ---- both factors -------------------------------------------------------------------------------------------------------------
def test_password_and_code_give_a_session_of_level_two(house: House) -> None:
    attempt = house.give(house.ceremony(), house.code())
    assert (attempt.error, attempt.answer.aal, attempt.answer.how) == (None, 2, "totp")


def test_neither_factor_is_enough_alone(house: House) -> None:
    house.login()
    assert not hasattr(house.login().answer, "token")
    with pytest.raises(Refused):
        house.give("AAAA", house.code())
    assert house.login("x" * 40).error is not None


@pytest.mark.parametrize("steps", [-1, 0, 1])
def test_a_code_counts_within_one_step_of_drift(house: House, steps: int) -> None:
    house.clock.pass_by(60)
    assert house.give(house.ceremony(), house.code(steps)).error is None


@pytest.mark.parametrize("steps", [-2, 2, 10])
def test_and_not_beyond(house: House, steps: int) -> None:
    house.clock.pass_by(600)
    assert house.give(house.ceremony(), house.code(steps)).error is not None


def test_a_code_counts_once_and_so_does_every_earlier_one(house: House) -> None:
    first, second = house.ceremony(), house.ceremony()
    code, earlier = house.code(), house.code(-1)
    assert house.give(first, code).error is None
    for used in (code, earlier):
        attempt = house.give(second, used)
        assert (attempt.error and attempt.error.code) == "unauthenticated"
    house.clock.pass_by(30)
    assert house.give(second, house.code()).error is None


def test_the_code_that_enrolled_the_generator_counts_no_more(tmp_path: Path) -> None:
    with inside(tmp_path) as server:
        house = House(server)
        house.clock.pass_by(-30)
        assert house.give(house.ceremony(), house.code()).error is not None


def test_of_two_that_race_with_one_code_one_gets_in(house: House) -> None:
    first, second, code = house.ceremony(), house.ceremony(), house.code()
    done: list[Attempt] = []
    for ceremony in (first, second):  # both are looked at before either is kept
        login_secrets.code(house.server.desk, Peer("192.0.2.1"), CodeLogin(ceremony=ceremony, code=code), done.append)
    house.server.store.flush()
    assert sorted(str(attempt.error and attempt.error.code) for attempt in done) == ["None", "unauthenticated"]


def test_a_ceremony_ends_with_its_login_and_with_the_clock(house: House) -> None:
    ceremony = house.ceremony()
    assert house.give(ceremony, house.code()).error is None
    house.clock.pass_by(30)
    again = house.give(ceremony, house.code())
    assert again.error is not None
    late = house.ceremony()
    house.clock.pass_by(301)
    with pytest.raises(Refused, match="over"):
        house.give(late, house.code())


def test_a_password_that_was_replaced_meanwhile_finishes_no_login(house: House) -> None:
    ceremony = house.ceremony()
    house.session = house.enrolling()
    house.post("/v1/authenticators/password", password="another one altogether")
    assert house.give(ceremony, house.code()).error is not None
    assert house.login().error is not None
    assert house.login("another one altogether").error is None


# ---- guessing -----------------------------------------------------------------------------------------------------------------
def test_a_wrong_password_and_an_unknown_name_are_answered_alike(house: House) -> None:
    wrong, unknown = house.login("wrong password"), house.login(name="never-was")
    assert wrong.error is not None and unknown.error is not None
    assert (wrong.error.code, wrong.error.detail, wrong.error.hint) == (
        unknown.error.code,
        unknown.error.detail,
        unknown.error.hint,
    )
    assert wrong.event and unknown.event  # one commit each: the disk tells nothing apart either


def test_known_and_unknown_names_cost_the_same_hash(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    worked: list[int] = []
    derive = passwords._derive
    monkeypatch.setattr(passwords, "_derive", lambda *given: worked.append(1) or derive(*given))
    for name in (ANN, "never-was", "first-auditor"):
        house.login("wrong password", name)
        assert len(worked) == 1, name
        worked.clear()


def test_a_hundred_thousand_wrong_passwords_cost_little_and_lock_nobody_out(house: House) -> None:
    """Every one comes through the door; two machines take turns, and another person guesses beside them.

    On PostgreSQL a tenth of them: there each is a question over a connection, and the hundred of each machine are long over.
    """
    tries = 10_000 if on_postgresql() else 100_000
    assert house.give(house.ceremony(), house.code()).error is None
    house.clock.pass_by(30)
    done: list[Attempt] = []
    begun, size, refused, waiting = time.perf_counter(), house.server.store.next_event, 0, 0
    for number in range(tries):
        request = PasswordLogin(principal=ANN if number % 4 else f"nobody-{number}", password=f"guess {number}")
        try:
            login_secrets.password(house.server.desk, Peer(f"198.51.100.{5 + number % 2}"), request, done.append)
            waiting += 1
        except LimitReached:
            refused += 1
        while waiting - len(done) > 8:
            house.server.store.flush()
            time.sleep(0.001)  # between two looks at a condition
    while waiting > len(done):
        house.server.store.flush()
        time.sleep(0.001)  # between two looks at a condition
    assert refused + waiting == tries and all(attempt.error is not None for attempt in done)
    assert waiting <= 2 * 100  # a hundred of each machine, whatever names it tries
    assert house.server.store.next_event == size + waiting  # what is refused without a look leaves nothing
    assert time.perf_counter() - begun < 240
    assert (house.authenticator("password").failures, house.authenticator("password").revoked_at) == (10, None)
    assert house.give(house.ceremony(), house.code()).error is None  # the person, from their own place
    with pytest.raises(LimitReached):
        house.login(address="198.51.100.5")


def test_a_crowd_with_passwords_waits_in_a_short_line_and_holds_up_nobody_else(house: House) -> None:
    held: list[Any] = []
    room = house.server.desk.people.passwords
    for _ in range(32):
        room.verify("x", None, lambda end, *how: held.append((end, how)), lambda right, fault: None)
    with pytest.raises(LimitReached, match="at once"):
        room.verify("x", None, lambda *_: None, lambda right, fault: None)
    assert house.server.ask("GET", "/v1/whoami", house.session)[0] == 200
    deadline = time.monotonic() + 20
    while len(held) < 32 and time.monotonic() < deadline:
        time.sleep(0.01)  # between two looks at a condition
    for end, how in held:
        end(*how)
    assert house.login().error is None


def test_guesses_through_the_door_are_slowed_down_like_that(house: House) -> None:
    outcomes = []
    for number in range(30):
        try:
            house.login(f"guess number {number}", address="198.51.100.7")
            outcomes.append("looked at")
        except LimitReached:
            outcomes.append("refused")
    assert outcomes == ["looked at"] * 5 + ["refused"] * 25


def test_the_hundredth_failure_in_a_row_disables_the_password_and_nothing_else(house: House) -> None:
    assert house.give(house.ceremony(), house.code()).error is None  # so 192.0.2.1 is a place of theirs
    house.clock.pass_by(30)
    for number in range(100):
        house.clock.pass_by(301)
        house.login(f"guess {number}")
    one = house.authenticator("password")
    assert (one.failures, one.revoked_why) == (100, "failures")
    house.clock.pass_by(301)
    assert house.login().error is not None  # the right one, too late
    house.clock.pass_by(3601)
    assert house.authenticator("totp").revoked_at is None
    house.session = house.enrolling()
    house.post("/v1/authenticators/password", password=PASSWORD)
    assert house.give(house.ceremony(), house.code()).error is None


def test_failures_are_in_a_row_a_success_forgives_them_and_a_restart_does_not(house: House) -> None:
    for number in range(49):
        house.login(f"guess {number}", address=f"198.51.100.{number}")
    assert house.authenticator("password").failures == 49  # in the store: a restart remembers
    assert house.give(house.ceremony(), house.code()).error is None
    assert house.authenticator("password").failures == 0


@pytest.mark.parametrize("factor", ["password", "totp"])
def test_strangers_who_guess_are_not_heard_any_more_and_lock_nobody_out(house: House, factor: str) -> None:
    assert house.give(house.ceremony(), house.code()).error is None
    house.clock.pass_by(30)
    ceremony = house.ceremony()
    wrong = f"{(int(house.code()) + 500_000) % 1_000_000:06}"
    for number in range(300):
        place = f"198.51.{number}.7" if number < 256 else f"203.0.113.{number - 256}"
        house.login("wrong", address=place) if factor == "password" else house.give(ceremony, wrong, address=place)
    one = house.authenticator(factor)
    assert (one.failures, one.revoked_at) == (50, None)
    if factor == "password":
        assert house.login(address="203.0.113.99").error is not None  # not even with the right one
    else:
        assert house.give(ceremony, house.code(), address="203.0.113.99").error is not None
    assert house.give(house.ceremony(), house.code()).error is None  # the person, where they have been before
    assert house.authenticator(factor).failures == 0


def test_a_name_of_the_tenant_is_not_another_count(house: House) -> None:
    names = ["", house.tenant()]
    looked_at = 0
    for number in range(20):
        request = PasswordLogin(principal=ANN, password="wrong", tenant=names[number % 2])
        try:
            house.ask(login_secrets.password, request, "198.51.100.7")
            looked_at += 1
        except LimitReached:
            pass
    assert looked_at == 5


def test_wrong_codes_are_counted_too(house: House) -> None:
    assert house.give(house.ceremony(), house.code()).error is None

    def asked() -> str:
        """Return what a right password gives; asking for it here would be a try of its own."""
        house.clock.pass_by(301)
        said = {"tenant": house.tenant(), "principal": ANN, "subject": house.authenticator("password").id}
        return house.server.desk.people.ceremonies.begin(login_secrets.KIND, house.clock.now(), **said)

    for number in range(100):
        ceremony = asked()
        wrong = f"{(int(house.code()) + 500_000 + number) % 1_000_000:06}"
        assert house.give(ceremony, wrong).error is not None
    assert house.authenticator("totp").revoked_why == "failures"
    ceremony = asked()
    assert house.give(ceremony, house.code()).error is not None


def test_wrong_recovery_codes_use_nothing_up(house: House) -> None:
    """They cannot be guessed (120 bits); counted, a stranger could take them from everybody whose name they know."""
    for number in range(150):
        assert recover(house, "aaaa-bbbb-cccc-dddd-eeee-ffff", address=f"198.51.100.{number}").error is not None
    assert recover(house, house.codes[0]).error is None


# ---- recovery -----------------------------------------------------------------------------------------------------------------
def recover(house: House, code: str, address: str = "192.0.2.1") -> Attempt:
    return house.ask(login_secrets.recovery, RecoveryLogin(principal=ANN, code=code), address)


def test_a_recovery_code_opens_an_enrolment_once_and_nothing_else(house: House) -> None:
    attempt = recover(house, house.codes[0].upper().replace("-", " "))
    assert attempt.error is None
    assert (attempt.answer.aal, attempt.answer.how) == (1, "recovery")
    assert (attempt.detail or {})["alarm"] == "recovery"
    house.session = attempt.answer.token
    assert house.raw("/v1/authenticators/passkey/begin")[0] == 200
    for kind in ("totp/begin", "key/begin", "recovery"):
        assert house.raw(f"/v1/authenticators/{kind}")[1]["code"] == "refused", kind
    assert house.raw("/v1/authenticators/password", password=PASSWORD)[1]["code"] == "refused"
    for path, body in (("/v1/seal", {}), ("/v1/keys", {"name": "k", "owner": "o"}), ("/v1/step-up/passkey/begin", {})):
        assert house.raw(path, **body)[0] == 403, path
    assert recover(house, house.codes[0]).error is not None
    assert recover(house, house.codes[1]).error is None


def test_a_wrong_recovery_code_and_a_newer_set(house: House) -> None:
    assert recover(house, "aaaa-bbbb-cccc-dddd-eeee-ffff").error is not None
    older = house.codes[2]
    house.session = house.enrolling()
    newer = house.post("/v1/authenticators/recovery")["codes"]
    assert recover(house, older).error is not None
    assert recover(house, newer[0]).error is None


def test_of_two_that_race_with_one_recovery_code_one_gets_in(house: House) -> None:
    done: list[Attempt] = []
    for _ in range(2):
        login_secrets.recovery(
            house.server.desk, Peer("192.0.2.1"), RecoveryLogin(principal=ANN, code=house.codes[0]), done.append
        )
    house.server.store.flush()
    assert sorted(attempt.error is None for attempt in done) == [False, True]


# ---- what is kept -------------------------------------------------------------------------------------------------------------
def test_no_secret_of_these_can_be_read_from_the_database(house: House) -> None:
    seed = house.totp.byte_secret()
    kept = house.server.stored()
    assert ANN.encode() in kept  # the search can find things
    for secret in (
        seed,
        house.totp.secret.encode(),
        PASSWORD.encode(),
        *(code.encode() for code in house.codes),
        house.session.encode(),
    ):
        assert secret not in kept


def test_a_sealed_server_checks_no_password(house: House) -> None:
    from keyclave.core.errors import Sealed
    from keyclave.operations.unseal import close_house

    close_house(house.server.desk)
    with pytest.raises(Sealed):
        house.login()
    assert recover(house, house.codes[0]).error is None  # hashes of codes are no secrets of the tenant's key


# ---- rules of passwords -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("password", ["short", "1234567", "Password1!", "QWERTY123", "aaaaaaaaaaaa", "keyclave123", "xx first-custodian", "correct horse battery staple"])  # fmt: skip
def test_passwords_that_are_short_or_tried_first_are_refused(password: str) -> None:
    with pytest.raises(Malformed) as wrong:
        check_new_password(password, ANN)
    assert password not in wrong.value.detail + wrong.value.hint


def test_long_ones_of_any_letters_are_taken() -> None:
    for password in (PASSWORD, "fünf Laternen über dem Fluß", "夜の港に七つの灯り", "    eight spaces    and words"):
        check_new_password(password, ANN)
    assert len(blocked()) > 300


def test_codes_are_those_of_rfc_6238() -> None:
    seed = b"12345678901234567890"
    for at, code in ((59, "287082"), (1111111109, "081804"), (20000000000, "353130")):
        assert one_time_codes.matching_step(seed, code, at * MICROSECONDS) == at // 30


# ---- what a passkey counts for that was enrolled after a recovery -----------------------------------------------------------
def bind(house: House, device: Passkey) -> dict[str, Any]:
    """Enrol a passkey with the session at hand."""
    begun = house.post("/v1/authenticators/passkey/begin")
    return house.post(
        "/v1/authenticators/passkey/finish", ceremony=begun["ceremony"], credential=device.create(begun["publicKey"])
    )


def device(house: House) -> Passkey:
    return Passkey(house.server.desk.people.relying.origins[0])


def come_in(house: House, passkey: Passkey) -> Attempt:
    begun = login.begin(house.server.desk, login.BeginLogin(principal=ANN))
    credential = msgspec.convert(passkey.get(begun.public_key), PasskeyProof)
    return house.ask(login.finish, login.FinishLogin(ceremony=begun.ceremony, credential=credential))


@pytest.mark.parametrize(("password", "level"), [("", 1), (PASSWORD, 2)])
def test_a_passkey_bound_by_a_recovery_code_counts_no_more_than_that(house: House, password: str, level: int) -> None:
    attempt = house.ask(login_secrets.recovery, RecoveryLogin(principal=ANN, code=house.codes[0], password=password))
    assert attempt.error is None, attempt.error.detail
    assert (attempt.answer.aal, attempt.answer.how) == (1, "recovery-password" if password else "recovery")
    house.session = attempt.answer.token
    lost = device(house)
    made = bind(house, lost)
    assert (made["aal"], made["synced"]) == (level, False)
    event = json.loads(house.server.store.read_entries(house.server.store.next_event - 1, 1)[0])
    assert (event["op"], event["detail"]["aal"]) == ("authenticator-enrol", level)
    session = come_in(house, lost)
    assert (session.error, session.answer.aal) == (None, level)
    # it breeds nothing surer: level 1 enrols nothing, level 2 no more than level 2
    house.session = session.answer.token
    status, answer = house.raw("/v1/authenticators/passkey/begin")
    if level == 1:
        assert (status, answer["code"]) == (403, "assurance_required")
    else:
        assert bind(house, device(house))["aal"] == 2
    # two people invite them again: the same device may be enrolled anew, in full, and what was bound lower is over
    house.session = house.enrolling()
    begun = house.post("/v1/authenticators/passkey/begin")
    assert begun["publicKey"]["excludeCredentials"] == []
    assert bind(house, device(house))["aal"] == 3
    event = json.loads(house.server.store.read_entries(house.server.store.next_event - 1, 1)[0])
    assert len(event["detail"]["replaced"].split(",")) == level
    passkeys = [one for one in house.authenticators() if one.kind == "passkey"]
    assert [(one.aal, one.revoked_why) for one in passkeys if one.revoked_at is not None] == [(level, "replaced")] * level
    assert [one.aal for one in passkeys if one.revoked_at is None] == [3]
    with pytest.raises(Unauthenticated):
        come_in(house, lost)


def test_a_wrong_password_beside_a_recovery_code_uses_no_code_up_and_is_counted(house: House) -> None:
    for name, code in ((ANN, house.codes[0]), ("nobody-here", "aaaa-bbbb-cccc-dddd-eeee-ffff")):
        attempt = house.ask(login_secrets.recovery, RecoveryLogin(principal=name, code=code, password="wrong wrong wrong"))
        assert attempt.error is not None and attempt.error.code == "unauthenticated"
    assert house.authenticator("password").failures == 1
    right = house.ask(login_secrets.recovery, RecoveryLogin(principal=ANN, code=house.codes[0], password=PASSWORD))
    assert (right.error, right.answer.how) == (None, "recovery-password")


def test_a_right_password_beside_a_wrong_code_opens_nothing(house: House) -> None:
    request = RecoveryLogin(principal=ANN, code="aaaa-bbbb-cccc-dddd-eeee-ffff", password=PASSWORD)
    assert house.ask(login_secrets.recovery, request).error is not None
    assert house.ask(login_secrets.recovery, RecoveryLogin(principal=ANN, code=house.codes[0])).error is None


def test_a_password_and_a_code_bind_a_passkey_of_level_two(house: House) -> None:
    session = house.give(house.ceremony(), house.code())
    assert (session.error, session.answer.aal) == (None, 2)
    house.session = session.answer.token
    assert bind(house, device(house))["aal"] == 2
