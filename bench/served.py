"""What is measured through HTTP: each row on each server in turn, round after round, so that a noisy minute hits all alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench import ours, peer
from bench.load import Endpoint, Failed, Sample, Work, Wrk

SMALL = bytes(range(64))
LARGE = bytes(i * 7 % 256 for i in range(4096))


@dataclass
class Contender:
    """A server under the name that the table gives it. `endpoints`: without TLS, with TLS."""

    name: str
    endpoints: tuple[Endpoint, Endpoint]
    ours: bool
    settle: Callable[[], None] = lambda: None  # after each sample
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Load:
    """A row: the same work for us and for the peer."""

    name: str
    ours: Work
    peer: Work
    connections: int
    tls: bool = False


LOADS = (
    Load("encrypt_64B_c16", ours.encrypt(SMALL), peer.encrypt(SMALL), 16),
    Load("encrypt_64B_c64", ours.encrypt(SMALL), peer.encrypt(SMALL), 64),
    Load("encrypt_64B_c16_tls", ours.encrypt(SMALL), peer.encrypt(SMALL), 16, tls=True),
    Load("encrypt_64B_c64_tls", ours.encrypt(SMALL), peer.encrypt(SMALL), 64, tls=True),
    Load("encrypt_4KiB_c16", ours.encrypt(LARGE), peer.encrypt(LARGE), 16),
    Load("data_key", ours.data_key(), peer.data_key(), 16),
    Load("batch_100", ours.encrypt_batch(SMALL, 100), peer.encrypt_batch(SMALL, 100), 16),
    Load("batch_1000", ours.encrypt_batch(SMALL, 1000), peer.encrypt_batch(SMALL, 1000), 16),
    Load("create_key", ours.create_key(), peer.create_key(), 16),
)


def measure(
    wrk: Wrk, contenders: Sequence[Contender], loads: Sequence[Load], rounds: int, seconds: float, say: Callable[[str], None]
) -> None:
    """Fill the samples of every contender. The peer may refuse a row (and is left out of it); we may not."""
    for load in loads:
        for contender in contenders:
            _sample(wrk, contender, load, 1)  # warm: connections, caches, the collector's pace
    for number in range(rounds):
        turn = number % len(contenders)
        for load in loads:
            say(f"round {number + 1} of {rounds}: {load.name}")
            for contender in (*contenders[turn:], *contenders[:turn]):
                sample = _sample(wrk, contender, load, seconds)
                if sample is not None:
                    contender.samples.setdefault(load.name, []).append(sample)


def _sample(wrk: Wrk, contender: Contender, load: Load, seconds: float) -> Sample | None:
    work = load.ours if contender.ours else load.peer
    if load.name in contender.refused:
        return None
    try:
        return wrk.run(contender.endpoints[load.tls], work, load.connections, seconds)
    except Failed as failure:
        if contender.ours:
            raise Failed(f"{load.name}: {failure}") from None
        contender.refused[load.name] = str(failure)
        return None
    finally:
        contender.settle()


def middle(contender: Contender, row: str, figure: Callable[[Sample], float]) -> float | None:
    """Return the median of a figure over the rounds, or None where the contender has no sample of the row."""
    samples = contender.samples.get(row)
    return median(figure(sample) for sample in samples) if samples else None


def spread(contender: Contender, row: str) -> float:
    """Return the largest rate of a row divided by its smallest: how noisy the machine was."""
    rates = [sample.requests_per_second for sample in contender.samples[row]]
    return max(rates) / min(rates)
