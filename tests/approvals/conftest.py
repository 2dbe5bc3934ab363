"""A server whose people have enrolled keys, with two custodians, and what approvals are tried on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.approvals.ward import Ward
from tests.live import launch

_number = itertools.count()


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    """A development server: keys can be destroyed without a waiting period."""
    live = launch(tmp_path_factory.mktemp("ward"), "--development", unseal=False)
    yield Ward(live)
    live.stop()


@pytest.fixture
def doomed(ward: Ward) -> str:
    """A key whose destruction is scheduled by the first custodian: its name."""
    return ward.doomed(f"doomed-{next(_number)}")
