"""A sample of the drills that leave the server no room to write; `make drill` does them several times."""

from __future__ import annotations

import pytest

from drill.disk import can_mount, disk_drill, file_limit_drill

pytestmark = [
    pytest.mark.requirement("P1", "R5", "R7", "R40"),
    pytest.mark.file_store("the disk under the file is full; `make drill-ha` fills that of PostgreSQL"),
]


def test_a_server_that_may_not_write_refuses_loses_nothing_and_goes_on_by_itself() -> None:
    result = file_limit_drill(1)
    assert result.notes == []
    assert result.ok


@pytest.mark.skipif(not can_mount(), reason="the right to mount a small file system is missing")
def test_a_full_disk_is_survived_and_all_goes_on_once_there_is_space() -> None:
    result = disk_drill(1)
    assert result.notes == []
    assert result.ok
