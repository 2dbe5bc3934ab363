"""A sample of the kill drill; `make drill` does it 200 times."""

from __future__ import annotations

import pytest

from drill.kill import kill_drill


@pytest.mark.requirement("P1", "R5", "R7", "R40")
def test_nothing_acknowledged_is_lost_by_kill_9_under_load() -> None:
    result = kill_drill(5)
    assert result.notes == []
    assert result.ok
    assert result.acknowledged > 100
