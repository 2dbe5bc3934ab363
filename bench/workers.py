"""Two workers beside one, each on a home of its own: the same load in turn, and what it costs in CPU time.

wrk runs on the same machine and is one thread: on two cores the workers and wrk share what there is. What would be there with cores
to spare follows from the CPU time of a request, which is measured too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.load import Sample, Wrk
from bench.ours import Keyclave, encrypt
from bench.served import SMALL
from bench.table import Row, at_least, at_most

CONNECTIONS = 64
SPARE = 4  # cores from which on two workers and wrk have one each, and the kernel one


@dataclass(frozen=True)
class Scaling:
    """Samples of one worker and of two, in turn."""

    one: list[Sample]
    two: list[Sample]


@contextmanager
def _homes(folder: Path) -> Iterator[tuple[Keyclave, Keyclave]]:
    with ExitStack() as stack:
        homes = Keyclave(folder, "one-worker", tls=False), Keyclave(folder, "two-workers", tls=False, workers=2)
        for home in homes:
            stack.callback(home.stop)
            home.start()
            home.unseal()
            home.furnish()
        yield homes


def measure(wrk: Wrk, folder: Path, rounds: int, seconds: float) -> Scaling:
    """Load both in turn."""
    seen: tuple[list[Sample], list[Sample]] = [], []
    with _homes(folder) as homes:
        for number in range(rounds + 1):
            for home, samples in zip(homes, seen, strict=True):
                sample = wrk.run(home.endpoint(), encrypt(SMALL), CONNECTIONS, seconds if number else 1)
                if number:  # the first round warms
                    samples.append(sample)
    return Scaling(*seen)


def rows(seen: Scaling, rounds: int, seconds: float) -> list[Row]:
    """Return what two workers do on SQLite."""
    how = f"encrypt 64 B, {CONNECTIONS} connections, no TLS, wrk -t1 on the same machine, medians of {rounds} rounds of {seconds:g} s"
    return scaling_rows("", seen.one, seen.two, f"{how}, taking turns; SQLite")


def scaling_rows(suffix: str, one: Sequence[Sample], two: Sequence[Sample], how: str) -> list[Row]:
    """Return the rate of two workers divided by that of one, and the same of CPU time for each request."""
    rates = [median(sample.requests_per_second for sample in samples) for samples in (one, two)]
    costs = [median(sample.cpu for sample in samples) for samples in (one, two)]
    cores = [median(sample.cores for sample in samples) for samples in (one, two)]
    count = os.cpu_count() or 1
    how = f"{how}; {count} cores; "
    rate = f"{how}one worker {rates[0]:,.0f}/s keeping {cores[0]:.2f} cores busy, two {rates[1]:,.0f}/s and {cores[1]:.2f}"
    cost = f"{how}one worker {costs[0] * 1000:.1f} µs, two {costs[1] * 1000:.1f} µs: two full cores would serve {2 * costs[0] / costs[1]:.2f} x"
    return [
        Row(
            f"two_workers_rate{suffix}",
            rates[1] / rates[0],
            "of one worker's",
            rate,
            target=at_least(1.6) if count >= SPARE else None,
        ),
        Row(
            f"two_workers_cpu{suffix}",
            costs[1] / costs[0],
            "of one worker's",
            cost,
            target=at_most(1.25) if count >= SPARE else None,
        ),
    ]
