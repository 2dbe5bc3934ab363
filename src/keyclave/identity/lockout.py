"""Back-off for failed authentication that nobody can turn against somebody else.

Every delay hangs on the address that failures came from, never on a name alone: whoever guesses at a name elsewhere delays only
themselves (a lock on the name would be a free denial of service against its owner). Two delays add nothing to each other, the
longer one holds:

* a name at an address: five failures are free, then 1, 2, 4, … seconds, five minutes at most; forgotten after an hour of quiet;
* an address as a whole (an IPv4 address, or an IPv6 /64, which is what one subscriber gets): one hundred failures at once, then
  one every six seconds. A name that has proved itself there in the last thirty days is not held to it: many people behind one
  address of a hospital do not pay for one of them.

So from one address at most about 105,000 guesses a year can be made at one name, and memory stays bounded whatever comes.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TypeVar

from keyclave.core.clock import MICROSECONDS, Clock

FREE = 5  # failures of a name at an address before the first delay
LONGEST = 300 * MICROSECONDS
QUIET = 3600 * MICROSECONDS
BURST = 100  # failures of an address before the first delay
REFILL = 6 * MICROSECONDS  # for one further failure
KNOWN = 30 * 86_400 * MICROSECONDS
_CAPACITY = 65_536  # entries of each kind; the one longest untouched goes first
_LONGEST_NAME = 256

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def network_of(address: str) -> str:
    """Return what counts as one place: an IPv4 address (mapped ones too), an IPv6 /64, or the text where it is neither."""
    try:
        six = IPv6Address(address)
    except AddressValueError:
        try:
            return str(IPv4Address(address))
        except AddressValueError:
            return address[:_LONGEST_NAME]
    if six.ipv4_mapped is not None:
        return str(six.ipv4_mapped)
    return f"{IPv6Address(int(six) >> 64 << 64)}/64"


def held_until(count: int, last: int, now: int) -> int:
    """Return until when a name must wait at an address after `count` failures there, the last one at `last`; 0: no more."""
    if count < FREE or now - last > QUIET:
        return 0
    return last + min(MICROSECONDS << min(count - FREE, 20), LONGEST)


class Lockout:
    """Remembers failures, in memory only. Not for several threads: the event loop owns it.

    `burst` failures of an address are free, then one for each `refill` microseconds.
    """

    def __init__(self, clock: Clock, capacity: int = _CAPACITY, burst: int = BURST, refill: int = REFILL) -> None:
        self._burst = burst
        self._clock = clock
        self._refill = refill
        self._capacity = capacity
        self._pairs: OrderedDict[tuple[str, str], tuple[int, int]] = OrderedDict()  # failures, when the last one was
        self._places: OrderedDict[str, int] = OrderedDict()  # when the address's allowance will be whole again
        self._known: OrderedDict[tuple[str, str], int] = OrderedDict()  # when the name last proved itself there

    def wait(self, principal: str, address: str) -> float:
        """Return for how many seconds this name at this address must wait before it may try (0: at once).

        An empty `principal` stands for a presented secret that names nobody: only the address counts then.
        """
        now, place = self._clock.now(), network_of(address)
        pair = (principal[:_LONGEST_NAME], place)
        until = self._pair_until(pair, now) if principal else 0
        if not self._is_known(pair, now):
            until = max(until, self._places.get(place, 0) - (self._burst - 1) * self._refill)
        return max(0, until - now) / MICROSECONDS

    def claim(self, principal: str, address: str) -> float:
        """Like `wait`; where the answer is 0, the try counts as failed from now on until `succeeded` is said.

        For proofs that take time to check (password hashing): a thousand tries at once would otherwise all be the first.
        """
        seconds = self.wait(principal, address)
        if not seconds:
            self.failed(principal, address)
        return seconds

    def failed(self, principal: str, address: str) -> None:
        """Count a failure."""
        now, place = self._clock.now(), network_of(address)
        pair = (principal[:_LONGEST_NAME], place)
        if principal:
            count, last = self._pairs.get(pair, (0, now))
            self._keep(self._pairs, pair, (1 if now - last > QUIET else count + 1, now))
        if not self._is_known(pair, now):
            whole = max(self._places.get(place, 0), now) + self._refill
            self._keep(self._places, place, min(whole, now + self._burst * self._refill))

    def succeeded(self, principal: str, address: str) -> None:
        """Forget the failures of this name at this address, and remember that it belongs there."""
        now, place = self._clock.now(), network_of(address)
        pair = (principal[:_LONGEST_NAME], place)
        if principal:
            self._pairs.pop(pair, None)
            self._keep(self._known, pair, now)

    def _pair_until(self, pair: tuple[str, str], now: int) -> int:
        count, last = self._pairs.get(pair, (0, 0))
        return held_until(count, last, now)

    def _is_known(self, pair: tuple[str, str], now: int) -> bool:
        last = self._known.get(pair)
        return last is not None and now - last <= KNOWN

    def _keep(self, table: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> None:
        table[key] = value
        table.move_to_end(key)
        if len(table) > self._capacity:
            table.popitem(last=False)
