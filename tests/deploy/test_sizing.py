"""The sizing page says what its script prints, and the script's arithmetic is right where it can be counted."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from bench import sizing
from tests.deploy.checking import ROOT


@pytest.mark.requirement("R32")
def test_the_page_is_what_the_script_prints() -> None:
    printed = subprocess.run([sys.executable, str(ROOT / "bench/sizing.py")], capture_output=True, text=True, check=True).stdout
    assert printed in (ROOT / "docs/sizing.md").read_text()


def test_tiles_are_counted_as_they_are_laid() -> None:
    """A log of 256³ events has 65,536 + 256 + 1 full tiles of 256 hashes."""
    events = sizing.WIDTH**3
    assert sizing.tile_bytes(events) == (65_536 + 256 + 1) * 256 * 32
    assert [sizing.levels(n) for n in (1, 256, 257, 65_536, 65_537)] == [1, 1, 2, 2, 3]


def test_a_proof_is_as_long_as_the_tree_is_deep() -> None:
    assert [sizing.proof_hashes(n) for n in (2, 3, 4, 5, 2**40, 2**40 + 1)] == [1, 2, 2, 3, 40, 41]


def test_the_share_of_hits_is_that_of_the_sum() -> None:
    exact = sum(1 / n for n in range(1, 1001)) / sum(1 / n for n in range(1, 100_001))
    assert math.isclose(sizing.hits(1000, 100_000), exact, rel_tol=1e-6)
    assert sizing.hits(10, 10) == 1.0


def test_more_events_to_a_commit_never_take_more() -> None:
    sizes = [sizing.Measured().stored(together) for together in (1, 1.5, 2, 4, 7, 16, 100, 256, 10_000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == pytest.approx(651 + 32.13, abs=0.01)
    assert sizes[-1] == pytest.approx(62 + 32.13, abs=0.01)
