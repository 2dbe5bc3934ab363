"""The provider and the server that believes it: one of each for a test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live import free_port
from tests.protocols.oidc.house import ALGORITHMS, House, NodeProvider, launch_with, section, settings_of


def new_house(folder: object, **more: object) -> House:
    """Start a provider and a server; `more` is said of every provider."""
    from pathlib import Path

    place = Path(str(folder))
    port = free_port()
    issuer = f"https://127.0.0.1:{port}"
    live = launch_with(place, "".join(section(name, issuer, **more) for name in ALGORITHMS))
    settings = settings_of(port, f"https://localhost:{live.port}")
    settings |= {"key": str(live.home / "tls/server.key"), "cert": str(live.home / "tls/server.pem")}
    provider = NodeProvider(place, port, settings)
    provider.start()
    return House(live, provider)


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = new_house(tmp_path_factory.mktemp("oidc"))
    yield made
    made.provider.stop()
    made.live.stop()
