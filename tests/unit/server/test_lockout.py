"""Failed authentication is slowed down where it comes from, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyclave.core.clock import MICROSECONDS
from keyclave.identity.lockout import BURST, FREE, LONGEST, QUIET, REFILL, Lockout, network_of


class Hands:
    """A clock set by hand."""

    def __init__(self) -> None:
        self.at = 1_700_000_000 * MICROSECONDS

    def now(self) -> int:
        return self.at

    def behind(self) -> int:
        return 0

    def go(self, seconds: float) -> None:
        self.at += int(seconds * MICROSECONDS)


def guess(lockout: Lockout, principal: str, address: str, times: int) -> None:
    for _ in range(times):
        if not lockout.claim(principal, address):
            continue


@pytest.mark.requirement("R30")
def test_a_slip_costs_nothing_and_guessing_costs_more_and_more() -> None:
    clock = Hands()
    lockout = Lockout(clock)
    for _ in range(FREE - 1):
        lockout.failed("ada", "192.0.2.1")
        assert lockout.wait("ada", "192.0.2.1") == 0
    waits = []
    for _ in range(12):
        lockout.failed("ada", "192.0.2.1")
        waits.append(lockout.wait("ada", "192.0.2.1"))
        clock.go(waits[-1])
        assert lockout.wait("ada", "192.0.2.1") == 0
    assert waits[:5] == [1, 2, 4, 8, 16]
    assert waits[-1] == LONGEST / MICROSECONDS == max(waits)


@pytest.mark.requirement("R30")
def test_success_and_an_hour_of_quiet_forget() -> None:
    clock = Hands()
    lockout = Lockout(clock)
    guess(lockout, "ada", "192.0.2.1", 20)
    assert lockout.wait("ada", "192.0.2.1") > 0
    lockout.succeeded("ada", "192.0.2.1")
    assert lockout.wait("ada", "192.0.2.1") == 0
    guess(lockout, "ada", "192.0.2.1", 20)
    clock.go(QUIET / MICROSECONDS + 1)
    lockout.failed("ada", "192.0.2.1")
    assert lockout.wait("ada", "192.0.2.1") == 0


@pytest.mark.requirement("R30")
def test_a_hundred_thousand_wrong_passwords_take_most_of_a_year() -> None:
    """Whoever tries at the first moment they may, with every name or with one, gets no further than what is written."""
    clock = Hands()
    lockout = Lockout(clock)
    begin = clock.at
    for _ in range(2_000):
        clock.go(lockout.wait("ada", "192.0.2.1"))
        assert lockout.claim("ada", "192.0.2.1") == 0
    pace = (clock.at - begin) / MICROSECONDS / 2_000
    assert pace * 100_000 > 300 * 86_400

    lockout, begin = Lockout(clock), clock.at
    for number in range(2_000):
        clock.go(lockout.wait(f"name-{number}", "192.0.2.1"))
        assert lockout.claim(f"name-{number}", "192.0.2.1") == 0
    assert clock.at - begin >= (2_000 - BURST) * REFILL


@pytest.mark.requirement("R30")
def test_tries_at_once_are_not_all_the_first() -> None:
    lockout = Lockout(Hands())
    assert [lockout.claim("ada", "192.0.2.1") for _ in range(1000)].count(0) == FREE


@pytest.mark.requirement("R30")
def test_who_belongs_there_does_not_pay_for_a_neighbour_behind_the_same_address() -> None:
    clock = Hands()
    lockout = Lockout(clock)
    lockout.succeeded("ada", "192.0.2.1")
    for number in range(BURST * 3):
        lockout.failed(f"name-{number}", "192.0.2.1")
    assert lockout.wait("a stranger", "192.0.2.1") == REFILL / MICROSECONDS  # and no more, however much went wrong there
    assert lockout.wait("ada", "192.0.2.1") == 0


_NAMES = st.sampled_from(["ada", "bo", "", "ada\x00"])
_ELSEWHERE = st.one_of(
    st.ip_addresses(v=4, network="203.0.113.0/24").map(str),
    st.ip_addresses(v=6, network="2001:db8:bad::/48").map(str),
    st.ip_addresses(v=4, network="203.0.113.0/24").map(lambda a: f"::ffff:{a}"),
    st.text(max_size=8),
)
_HERE = st.sampled_from(["192.0.2.7", "::ffff:192.0.2.7", "2001:db8:600d:1::1", "unix"])


@pytest.mark.requirement("R30")
@given(_HERE, st.lists(st.tuples(_NAMES, _ELSEWHERE, st.booleans(), st.floats(0, 10_000)), max_size=60))
def test_an_attacker_elsewhere_never_delays_the_person_here(here: str, attack: list[tuple[str, str, bool, float]]) -> None:
    clock = Hands()
    lockout = Lockout(clock, capacity=16)  # little memory: forgetting must not hurt either
    for name, address, success, pause in attack:
        if network_of(address) == network_of(here):
            continue
        for _ in range(BURST):
            lockout.failed(name, address)
        if success:
            lockout.succeeded(name, address)
        clock.go(pause)
        assert lockout.wait("ada", here) == 0
        assert lockout.claim("ada", here) == 0
        lockout.succeeded("ada", here)


@pytest.mark.requirement("R30")
@given(st.lists(st.tuples(st.text(max_size=300), st.text(max_size=300)), max_size=200))
def test_memory_is_bounded_whatever_comes(tries: list[tuple[str, str]]) -> None:
    lockout = Lockout(Hands(), capacity=8)
    for name, address in tries:
        lockout.failed(name, address)
        lockout.succeeded(name, address)
        lockout.failed(name, address)
    for table in (lockout._pairs, lockout._places, lockout._known):
        assert len(table) <= 8
        assert all(len(text) <= 256 for key in table for text in ((key,) if isinstance(key, str) else key))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("unix", "unix2", False),
    ],
)
def test_what_counts_as_one_place(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same
