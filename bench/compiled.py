"""What compiling the hot path is worth: a server as it is measured, and one that runs from its text, under the same load in turn.

Both begin anew: whoever has worked for minutes is slower than whoever has not.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench.load import Sample, Wrk
from bench.ours import TEXT, Keyclave, encrypt
from bench.served import SMALL
from bench.table import Row

CONNECTIONS = 64

Samples = tuple[list[Sample], list[Sample]]
"""Of the server that is measured, and of its text."""


def measure(wrk: Wrk, folder: Path, rounds: int, seconds: float) -> Samples:
    """Load both in turn, over TLS."""
    seen: Samples = [], []
    with ExitStack() as stack:
        homes = Keyclave(folder, "compiled", tls=True), Keyclave(folder, "text", tls=True, source=TEXT)
        for home in homes:
            stack.callback(home.stop)
            home.start()
            home.unseal()
            home.furnish()
        for number in range(rounds + 1):
            for home, samples in zip(homes, seen, strict=True):
                sample = wrk.run(home.endpoint(), encrypt(SMALL), CONNECTIONS, seconds if number else 1)
                if number:  # the first round warms
                    samples.append(sample)
    return seen


def rows(seen: Samples, rounds: int, seconds: float) -> list[Row]:
    """Return the rate of what is measured, divided by that of its text."""
    rates = [median(sample.requests_per_second for sample in samples) for samples in seen]
    costs = [median(sample.cpu for sample in samples) * 1000 for samples in seen]
    how = (
        f"encrypt 64 B, {CONNECTIONS} connections, TLS, wrk -t1 on the same machine, medians of {rounds} rounds of {seconds:g} s, taking "
        f"turns; compiled {rates[0]:,.0f}/s and {costs[0]:.1f} µs of CPU, text {rates[1]:,.0f}/s and {costs[1]:.1f} µs"
    )
    return [Row("compiled_64B_c64_tls", rates[0] / rates[1], "of the text's rate", how)]
