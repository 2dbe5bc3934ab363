"""What every drawer shares: hypothesis profiles and the place of the repository."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import postgres
from tests.homes import STORE, on_postgresql
from tests.live import Live, launch

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of servers are started: each would compile everything anew
os.environ.setdefault(postgres.SESSION, str(os.getpid()))  # here, before workers are started: they share one PostgreSQL
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a script has it for what it starts behind it, and all that starts
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Examples are slow when other workers share the cores: a deadline would make a test fail for the machine's sake.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples every time, so that a red run is about the change and not about luck.
settings.register_profile("ci", parent=settings.get_profile("here"), derandomize=True, print_blob=True)
# For a long search: HYPOTHESIS_PROFILE=search make test ARGS="tests/property"
settings.register_profile("search", parent=settings.get_profile("here"), max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "here"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store", choices=("sqlite", "postgresql"), help="where the servers of the tests keep everything (default: sqlite)"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--store"):
        os.environ[STORE] = config.getoption("--store")  # of the environment: pytest's workers have no options of their own


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what is about the file itself where there is none."""
    if on_postgresql():
        for item in items:
            if (found := item.get_closest_marker("file_store")) is not None:
                item.add_marker(pytest.mark.skip(f"of the store in a file alone: {found.args[0]}"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the top folder of the repository."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A live, unsealed server for everybody who does not hurt it; one for each test process."""
    server = launch(tmp_path_factory.mktemp("live"))
    yield server
    server.stop()


@pytest.fixture
def own_live(tmp_path: Path) -> Iterator[Live]:
    """A live, unsealed server of this test's own, to be killed, sealed and tampered with."""
    server = launch(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def database() -> Iterator[postgres.Database]:
    """A PostgreSQL database of this test's own, with the newest schema."""
    with postgres.new_database() as made:
        yield made
