"""How large an installation becomes: events, keys, tiles, disks and nodes, worked out on paper from what was measured on a small one.

    python bench/sizing.py                              the tables of docs/sizing.md
    python bench/sizing.py --keys 1e9 --events 1e12     a house of another size
    python bench/sizing.py --measure                    measure bytes for each event and key on this machine first (a minute)

Nothing here connects to anything but the server that `--measure` starts for itself.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

YEAR = 365.25 * 86_400  # seconds
HASH = 32
WIDTH = 256  # of a tile
PAGE = 8192  # of PostgreSQL
_FILL = 0.9  # of an index page, in a table that only grows
_KEYS_OF_A_PAGE = 200  # of an index on a 30-byte key


@dataclass(frozen=True)
class Measured:
    """Bytes and rates of one machine. The defaults are those of docs/sizing.md, which says how they were measured."""

    leaf: float = 357.0  # an encoded event of a use of a key
    stored: float = 397.0  # the same in the store, with its share of rows, tiles and indexes, not compressed
    compressed: float = 214.0  # the same on PostgreSQL, which compresses a journal's larger rows
    key: float = 1_120.0  # a key with one version: rows and indexes
    node_rate: float = 8_000.0  # uses of keys for each second of one core, TLS, small values
    integrate_rate: float = 20_000.0  # events to which one sequencer gives places in a second
    verify_rate: float = 280_000.0  # events that the verifier checks in a second, one core
    cached: float = 400.0  # bytes of memory for a key version that is ready for use


@dataclass(frozen=True)
class House:
    """What an organisation has and does."""

    name: str
    keys: float
    events: float  # in all of the years that they are kept
    years: float = 6.0
    busy: float = 5.0  # how many times the average the busiest hour is

    @property
    def average(self) -> float:
        """Events in a second, on average."""
        return self.events / (self.years * YEAR)

    @property
    def peak(self) -> float:
        """Events in a second, in the busiest hour."""
        return self.average * self.busy


def levels(events: float) -> int:
    """Return how many levels of tiles a log has: each is a 256th of the one below."""
    count, found = events, 1
    while count > WIDTH:
        count, found = count / WIDTH, found + 1
    return found


def tile_bytes(events: float) -> float:
    """Return the bytes of all tiles: 32 for each event on the lowest level, a 256th of that on the next, and so on."""
    return sum(events / WIDTH**level * HASH for level in range(levels(events)))


def proof_hashes(events: float) -> int:
    """Return the length of an inclusion proof (RFC 6962): one hash for each level of the binary tree."""
    return math.ceil(math.log2(max(events, 2)))


def index_depth(rows: float) -> int:
    """Return how many pages a look-up by an index reads."""
    return max(1, math.ceil(math.log(max(rows, 2), _KEYS_OF_A_PAGE)))


def harmonic(n: float) -> float:
    """Return the n-th harmonic number, to within a millionth for large n (Euler and Maclaurin)."""
    return math.log(n) + 0.5772156649 + 1 / (2 * n)


def hits(cached: float, keys: float) -> float:
    """Return the share of uses that find their key in memory, where the n-th most used key is used 1/n as often (Zipf)."""
    return 1.0 if cached >= keys else harmonic(cached) / harmonic(keys)


def bytes_of(amount: float) -> str:
    """Return an amount for people, in decimal units."""
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if amount < 1000 or unit == "PB":
            break
        amount /= 1000
    return f"{amount:,.0f} {unit}" if amount >= 100 else f"{amount:.3g} {unit}"


def row(house: House, measured: Measured, cores: float, cache: float) -> dict[str, str]:
    """Work a house out."""
    year = house.average * YEAR
    nodes = max(3, math.ceil(house.peak / (measured.node_rate * cores) / 0.5) + 1)  # half full at the peak, and one may be away
    misses = house.peak * (1 - hits(cache, house.keys))
    sequencers = house.peak / measured.integrate_rate
    return {
        "events kept": f"{house.events:,.0f}",
        "events/s, average and busiest hour": f"{house.average:,.1f}, {house.peak:,.0f}",
        "events a year": f"{year:,.0f}",
        "log a year, as it is": bytes_of(year * measured.stored),
        "log a year, compressed": bytes_of(year * measured.compressed),
        "log kept, compressed": bytes_of(house.events * measured.compressed),
        "of that, tiles": bytes_of(tile_bytes(house.events)),
        "keys, and their bytes": f"{house.keys:,.0f}, {bytes_of(house.keys * measured.key)}",
        "database, times three members": bytes_of(3 * (house.events * measured.compressed + house.keys * measured.key)),
        "write-ahead log a day": bytes_of(house.average * 86_400 * measured.stored * 1.3),
        "nodes of 2 cores" if cores == 2 else f"nodes of {cores:g} cores": f"{nodes}",
        "share of the one sequencer": f"{sequencers:.0%}" + (" (more than one can do)" if sequencers > 1 else ""),
        "connections to the database": f"{nodes * 6}",
        "uses that find their key in memory": f"{hits(cache, house.keys):.0%}",
        "keys fetched from the database each second": f"{misses:,.0f}, {index_depth(house.keys)} pages each",
        "memory of the cache": bytes_of(min(cache, house.keys) * measured.cached),
        "levels of tiles, hashes of a proof": f"{levels(house.events)}, {proof_hashes(house.events)}",
        "verifying all of it, one core": f"{house.events / measured.verify_rate / 86_400:,.2f} days",
    }


HOUSES = (
    House("practice", 1e3, 1e8),
    House("hospital", 1e5, 5e9),
    House("network of hospitals", 1e7, 1e11),
    House("on paper", 1e9, 1e12),
)


def table(houses: tuple[House, ...], measured: Measured, cores: float, cache: float) -> str:
    """Return the houses side by side, in Markdown."""
    rows = [row(house, measured, cores, cache) for house in houses]
    lines = ["| | " + " | ".join(house.name for house in houses) + " |", "|---|" + "--:|" * len(houses)]
    return "\n".join([*lines, *(f"| {name} | " + " | ".join(one[name] for one in rows) + " |" for name in rows[0])])


def measure() -> Measured:
    """Run a small server, use and make keys, and look at what lies in its store and record afterwards."""
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "src")]
    from bench.sized import measure_store

    return replace(Measured(), **measure_store())


def main() -> int:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description="Work out how large an installation becomes.")
    parser.add_argument("--keys", type=float, help="how many keys")
    parser.add_argument("--events", type=float, help="how many events are kept")
    parser.add_argument("--years", type=float, default=6.0, help="for how long (6: 45 CFR 164.316(b)(2)(i))")
    parser.add_argument("--cores", type=float, default=2.0, help="of each node (2)")
    parser.add_argument("--cache", type=float, default=100_000, help="key versions that a node keeps ready (100,000)")
    parser.add_argument("--measure", action="store_true", help="measure the bytes on this machine first")
    chosen = parser.parse_args()
    measured = measure() if chosen.measure else Measured()
    houses = HOUSES
    if chosen.keys or chosen.events:
        houses = (House("yours", chosen.keys or 1e5, chosen.events or 1e9, chosen.years),)
    if chosen.measure:
        print(measured, file=sys.stderr)
    print(table(houses, measured, chosen.cores, chosen.cache))
    return 0


if __name__ == "__main__":
    sys.exit(main())
