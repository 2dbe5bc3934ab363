"""The configuration: one TOML file in the home directory, frozen, checked once, unknown settings refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from keyclave.core.errors import Malformed

FILE = "keyclave.toml"


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the server listens. `tls = false` only on loopback, and only for measuring."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8443
    tls: bool = True
    certificate: str = "tls/server.pem"
    key: str = "tls/server.key"
    connections: Annotated[int, Meta(ge=16, le=200_000)] = 20_000


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`plain_context`: names of the encryption context whose values the log may show. `destruction_days`: least waiting
    period."""

    plain_context: tuple[str, ...] = ("purpose",)
    destruction_days: Annotated[int, Meta(ge=0, le=365)] = 7
    message_limit: Annotated[int, Meta(ge=1, le=2**48)] = 2**32


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`origin` names the log in every checkpoint and never changes."""

    origin: str
    checkpoint_seconds: Annotated[float, Meta(ge=0.05, le=60)] = 1.0


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it. `development = true` permits the development root and shorter waiting periods, and is said everywhere."""

    log: LogSettings
    development: bool = False
    database: str = "keyclave.db"
    listen: Listen = Listen()
    policy: Policy = Policy()


def load(home: Path) -> Config:
    """Read and check the configuration of a home; everything wrong is one sentence with the place."""
    path = home / FILE
    try:
        config = msgspec.convert(tomllib.loads(path.read_text()), Config)
    except FileNotFoundError:
        raise Malformed(f"there is no {FILE} in {home}", "run `keyclave init` first, or name another home") from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as fault:
        raise Malformed(f"{path}: {fault}", "correct it, or compare with docs/configuration.md") from None
    if not config.development and config.policy.destruction_days < 1:
        raise Malformed(f"{path}: destruction_days is 0", "a waiting period of at least a day, outside development")
    if not config.listen.tls and config.listen.host not in ("127.0.0.1", "::1", "localhost"):
        raise Malformed(f"{path}: tls is off on {config.listen.host}", "turn it on: only loopback may do without")
    return config
