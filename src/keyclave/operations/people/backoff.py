"""Who tried too often: failures counted by the name that was given and the network it came from.

A guesser is slowed down on their own network, and nobody else: the person logs in from elsewhere as if nothing had happened. Names
that do not exist are slowed down alike, so the delay tells nothing. Memory is bounded: what was heard of longest ago is forgotten
first.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

from keyclave.core.clock import MICROSECONDS
from keyclave.core.errors import LimitReached

FREE = 5  # failures in a row that cost nothing
LONGEST = 15 * 60 * MICROSECONDS
FORGOTTEN = 60 * 60 * MICROSECONDS  # after so long without a failure, all is forgiven
REMEMBERED = 65_536

Asked = tuple[str, str, str]


class Backoff:
    """Counts failures in a row and says when the next try may come."""

    def __init__(self) -> None:
        self._failed: OrderedDict[Asked, tuple[int, int]] = OrderedDict()  # how many, when the last

    def check(self, tenant: str, principal: str, address: str, now: int) -> None:
        """Raise `LimitReached` while it is too early for another try."""
        count, last = self._failed.get((tenant, principal, network_of(address)), (0, 0))
        if now < last + _delay(count):
            raise LimitReached("too many failures in a row from this network", "wait a quarter of an hour, or use a passkey")

    def failed(self, tenant: str, principal: str, address: str, now: int) -> None:
        """Count a failure."""
        asked = (tenant, principal, network_of(address))
        count, last = self._failed.pop(asked, (0, 0))
        self._failed[asked] = (1 if now > last + FORGOTTEN else count + 1, now)
        if len(self._failed) > REMEMBERED:
            self._failed.popitem(last=False)

    def succeeded(self, tenant: str, principal: str, address: str) -> None:
        """Forget the failures."""
        self._failed.pop((tenant, principal, network_of(address)), None)


def _delay(count: int) -> int:
    """Return how long to wait after `count` failures in a row: 1, 2, 4, … seconds, at most a quarter of an hour."""
    return 0 if count < FREE else min(LONGEST, MICROSECONDS << min(count - FREE, 20))


def network_of(address: str) -> str:
    """Return the network that one subscriber has: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    mapped = getattr(parsed, "ipv4_mapped", None)
    if mapped is not None:
        return str(mapped)
    return address if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))
