"""The provider and the server that believes it: one of each for a test process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from joserfc.jwk import ECKey

from tests.live import free_port
from tests.protocols.oidc.house import ALGORITHMS, House, NodeProvider, launch_with, section, settings_of


def new_house(folder: object, **more: object) -> House:
    """Start a provider and a server; `more` is said of every provider."""
    from pathlib import Path

    place = Path(str(folder))
    port = free_port()
    issuer = f"https://127.0.0.1:{port}"
    own = ECKey.generate_key("P-256", {"kid": "ours", "use": "sig"})
    pem = place / "client.pem"
    pem.write_bytes(own.as_pem(private=True))
    pem.chmod(0o600)
    sections = [section(name, issuer, **more) for name in ALGORITHMS]
    sections.append(section("corp-key", issuer, client_secret_file=None, client_key_file=str(pem), **more))
    live = launch_with(place, "".join(sections))
    settings = settings_of(port, f"https://localhost:{live.port}")
    settings["clients"].append(
        {
            **settings["clients"][0], "client_id": "keyclave corp-key", "client_secret": None,
            "redirect_uris": [f"https://localhost:{live.port}/v1/sso/corp-key/callback"],
            "token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256",
            "jwks": {"keys": [dict(own.as_dict(private=False))]},
        }
    )  # fmt: skip
    for client in settings["clients"]:
        if client["client_secret"] is None:
            del client["client_secret"]
    settings |= {"key": str(live.home / "tls/server.key"), "cert": str(live.home / "tls/server.pem")}
    provider = NodeProvider(place, port, settings)
    with ExitStack() as stack:
        stack.callback(live.stop)  # where there is no provider, no server stays behind
        provider.start()
        stack.pop_all()
    return House(live, provider)


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = new_house(tmp_path_factory.mktemp("oidc"))
    yield made
    made.provider.stop()
    made.live.stop()
