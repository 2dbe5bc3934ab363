"""From samples to rows: which figure of which load, held against the better of the peer's two set-ups."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.load import Sample
from bench.served import LOADS, Contender, Load, middle, spread
from bench.table import Row, Target, share, times

RATES: dict[str, Target | None] = {
    "encrypt_64B_c16": times(2.5),
    "encrypt_64B_c64": times(5),
    "encrypt_64B_c16_tls": times(2.5),
    "encrypt_64B_c64_tls": times(5),
    "encrypt_4KiB_c16": times(2),
    "data_key": times(2.5),
    "batch_100": times(4),
    "batch_1000": times(4),
    "create_key": times(3),
}
_BY_NAME = {load.name: load for load in LOADS}


def served_rows(us: Contender, peers: Sequence[Contender], how: str) -> list[Row]:
    """Return a row for each load, and the latencies and CPU times that have targets."""
    rows = [_rate_row(us, peers, load, how) for load in LOADS]
    rows += [
        _cost_row("p99_64B_c16", us, peers, "encrypt_64B_c16", lambda sample: sample.p99, "ms", share(1 / 4), how),
        _cost_row("p99_64B_c64", us, peers, "encrypt_64B_c64", lambda sample: sample.p99, "ms", share(1 / 4), how),
        _cost_row("p50_64B_c16", us, peers, "encrypt_64B_c16", lambda sample: sample.p50, "ms", None, how),
        _cost_row("cpu_ms_per_request_64B_c16", us, peers, "encrypt_64B_c16", lambda sample: sample.cpu, "ms", share(1 / 3), how),
        _cost_row("cpu_ms_per_request_64B_c64", us, peers, "encrypt_64B_c64", lambda sample: sample.cpu, "ms", None, how),
    ]
    return rows


def _rate_row(us: Contender, peers: Sequence[Contender], load: Load, how: str) -> Row:
    def figure(sample: Sample) -> float:
        return sample.requests_per_second * load.ours.items

    unit = "items/s" if load.ours.items > 1 else "requests/s"
    return _row(load.name, us, peers, load.name, figure, unit, RATES[load.name], how, best=max)


def _cost_row(
    name: str, us: Contender, peers: Sequence[Contender], load: str, figure: Callable[[Sample], float], unit: str,
    target: Target | None, how: str,
) -> Row:  # fmt: skip
    return _row(name, us, peers, load, figure, unit, target, how, best=min)


def _row(
    name: str, us: Contender, peers: Sequence[Contender], load: str, figure: Callable[[Sample], float], unit: str,
    target: Target | None, how: str, *, best: Callable[[Sequence[float]], float],
) -> Row:  # fmt: skip
    mine = middle(us, load, figure)
    assert mine is not None, load  # a load that fails on us stops the run
    found = {peer.name: middle(peer, load, figure) for peer in peers}
    known = [value for value in found.values() if value is not None]
    setups = "; ".join(f"{label}: {f'{value:.4g}' if value is not None else 'refused'}" for label, value in found.items())
    wire = "TLS 1.3" if _BY_NAME[load].tls else "no TLS"
    noise = f"largest/smallest rate of ours over the rounds {spread(us, load):.2f}"
    conditions = f"{_BY_NAME[load].connections} connections, {wire}, {how}; {noise}; peer = the better of {setups}"
    return Row(name, mine, unit, conditions, best(known) if known else None, target)
