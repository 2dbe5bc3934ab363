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
from itertools import pairwise
from pathlib import Path

YEAR = 365.25 * 86_400  # seconds
HASH = 32
WIDTH = 256  # of a tile
_ROW = 200  # bytes that an event's own share of rows, index entries and places adds to it in the write-ahead log
_WAL = 1.3  # and what whole pages after each checkpoint add to that
CONNECTIONS = 11  # of a node: two write, six read, and one each follows, waits for the others and places events
_KEYS_OF_A_PAGE = 200  # of an index on a 30-byte key


@dataclass(frozen=True)
class Measured:
    """Bytes and rates of one machine. The defaults are those of docs/sizing.md, which says how they were measured."""

    leaf: float = 371.0  # an encoded event of a use of a key, with two names in its context
    sqlite: float = 677.0  # the same in a SQLite store, one event to a commit, with its share of tiles and indexes
    # The same on PostgreSQL (journal, places, indexes), by how many events share a commit: long rows are compressed, short ones not.
    postgres: tuple[tuple[int, float], ...] = ((1, 651.0), (4, 463.0), (16, 103.0), (64, 76.0), (256, 62.0))
    key: float = 1_200.0  # a key with one version: rows and indexes
    commit: float = 0.002  # seconds of a commit that a standby has confirmed
    node_rate: float = 8_000.0  # uses of keys in a second of one core over TLS, 64 bytes
    integrate_rate: float = 20_000.0  # events to which one sequencer gives places in a second: the least it must do
    verify_rate: float = 280_000.0  # events that the verifier checks in a second, one core
    cached: float = 400.0  # bytes of memory for a key version that is ready for use

    def stored(self, together: float) -> float:
        """Return the bytes of an event on PostgreSQL, tiles included, where so many share a commit (straight lines over logarithms)."""
        sizes = self.postgres
        tiles = HASH * WIDTH / (WIDTH - 1)
        if together >= sizes[-1][0]:
            return sizes[-1][1] + tiles
        for (few, large), (many, small) in pairwise(sizes):
            if together <= many:
                share = math.log(max(together, few) / few) / math.log(many / few)
                return large + (small - large) * share + tiles
        raise AssertionError


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
    return sum(events / float(WIDTH**level) * HASH for level in range(levels(events)))


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
    together = max(1.0, house.average / nodes * measured.commit)
    stored = measured.stored(together)
    misses = house.peak * (1 - hits(cache, house.keys))
    sequencers = house.peak / measured.integrate_rate
    return {
        "events kept": f"{house.events:,.0f}",
        "events/s, average; busiest hour": f"{house.average:,.1f}; {house.peak:,.0f}",
        "events a year": f"{year:,.0f}",
        "keys, and their bytes": f"{house.keys:,.0f}, {bytes_of(house.keys * measured.key)}",
        "nodes, and cores of each": f"{nodes} of {cores:g}",
        "events to a commit": f"{together:.1f}",
        "bytes of an event": f"{stored:,.0f}",
        "log a year": bytes_of(year * stored),
        f"log kept, {house.years:g} years": bytes_of(house.events * stored),
        "of that, tiles": bytes_of(tile_bytes(house.events)),
        "all of it, three members": bytes_of(3 * (house.events * stored + house.keys * measured.key)),
        "write-ahead log a day": bytes_of(house.average * 86_400 * (measured.leaf + _ROW) * _WAL),
        "connections to the database": f"{nodes * CONNECTIONS}",
        "load of the one sequencer, busiest hour": f"{sequencers:.0%}",
        "uses that find their key in memory": f"{hits(cache, house.keys):.0%}",
        "keys fetched in a second, pages each": f"{misses:,.0f}, {index_depth(house.keys)}",
        "memory of the cache": bytes_of(min(cache, house.keys) * measured.cached),
        "levels of tiles, hashes of a proof": f"{levels(house.events)}, {proof_hashes(house.events)}",
        "verifying all of it, one core": f"{house.events / measured.verify_rate / 86_400:,.2f} days",
    }


HOUSES: tuple[House, ...] = (
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

    seen = measure_store()  # the bytes on PostgreSQL stay those of docs/sizing.md
    return replace(Measured(), leaf=seen["leaf"], sqlite=seen["sqlite"], key=seen["key"])


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
