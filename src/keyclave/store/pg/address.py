"""Where the database is, and how it may be reached: `postgresql://user@host:port/database?…`.

Several hosts are named once each (`?host=a:5432&host=b:5432`); the one that takes writes is used. Over a network the server's
certificate is verified against its name (`sslmode=verify-full`); only a Unix socket, or loopback in development, does without.
The password never stands in the address: it comes from `password_file`, or from PGPASSFILE, and so appears in no process list.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from keyclave.core.errors import Malformed
from keyclave.store.pg.readers import only_ours

SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
CONNECT_SECONDS = 2
_PASSED_ON = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir", "channel_binding", "ssl_min_protocol_version")
_VERIFIED = "verify-full"
_LIKE = "write it like postgresql://keyclave_app@db.example.org:5432/keyclave?sslrootcert=/etc/keyclave/db-ca.pem"
# What holds for every session: a client that is stopped inside a transaction is cut off.
# There is no statement_timeout: one that strikes while a commit waits for its standby makes the server report success even so.
_SESSION = (
    "-c timezone=UTC -c client_encoding=UTF8 -c search_path=public -c standard_conforming_strings=on "
    "-c statement_timeout=0 -c lock_timeout=3000 -c idle_in_transaction_session_timeout=10000"
)


def is_postgres(address: str) -> bool:
    """Tell whether `address` names a database server rather than a file."""
    return address.split("://", 1)[0] in SCHEMES and "://" in address


@dataclass(frozen=True)
class Address:
    """An address that was checked. `shown` is what may be written into a log."""

    shown: str
    settings: dict[str, Any] = field(repr=False)  # as libpq takes them
    password_file: Path | None = None

    def parameters(self) -> dict[str, Any]:
        """Return what to connect with. The password is read anew each time, so that it can be changed under a running server."""
        if self.password_file is None:
            return self.settings
        return {**self.settings, "password": read_password(self.password_file)}


def read_password(path: Path) -> str:
    """Return the one line of a password file, which nobody but its owner may read."""
    try:
        ours = only_ours(path)
        text = path.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        raise Malformed(f"the password file {path} cannot be read", "write the password of the database into it") from None
    if not ours:
        raise Malformed(f"others may read the password file {path}", f"chmod 600 {path}")
    if not text or "\n" in text or len(text) > 1024:
        raise Malformed(f"the password file {path} is not one line", "write the password, and nothing else, into it")
    return text


def read_address(address: str, *, development: bool = False, password_file: Path | None = None) -> Address:
    """Check an address and return what libpq is given. What would send a password or a key's name in the clear is refused."""
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise Malformed("the address of the database cannot be read", _LIKE) from None
    if url.drivername not in SCHEMES:
        raise Malformed(f"the address of the database begins with {url.drivername}", _LIKE)
    if url.password is not None:
        raise Malformed("the address of the database holds a password", "put it into a file and name that as `password_file`")
    if not url.database or not url.username:
        raise Malformed("the address of the database names no user or no database", _LIKE)
    query = {name: value if isinstance(value, tuple) else (value,) for name, value in url.query.items()}
    hosts = _hosts(url.host, url.port, query.pop("host", ()), query.pop("port", ()))
    query.pop("target_session_attrs", None)  # it is always the one that takes writes
    for name, values in query.items():
        if name not in _PASSED_ON or len(values) != 1:
            raise Malformed(f"the address of the database says {name}, which is not understood", f"leave it out; {_LIKE}")
    settings: dict[str, Any] = {name: values[0] for name, values in query.items()}
    settings["sslmode"] = _tls(settings.get("sslmode"), [host for host, _ in hosts], development=development)
    settings |= {
        "user": url.username, "dbname": url.database, "host": ",".join(host for host, _ in hosts),
        "port": ",".join(port for _, port in hosts), "target_session_attrs": "read-write", "connect_timeout": CONNECT_SECONDS,
        "tcp_user_timeout": CONNECT_SECONDS * 1000, "keepalives_idle": 2, "keepalives_interval": 1, "keepalives_count": 3,
        "application_name": "keyclave", "options": _SESSION, "gssencmode": "disable",
    }  # fmt: skip
    shown = f"postgresql://{url.username}@{','.join(f'{host}:{port}' for host, port in hosts)}/{url.database}"
    return Address(shown, settings, password_file)


def _hosts(host: str | None, port: int | None, hosts: tuple[str, ...], ports: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return (host, port) of each server named."""
    default = ports[0] if ports else str(port or 5432)
    named = [*([host] if host else []), *hosts]
    if not named:
        raise Malformed("the address of the database names no host", _LIKE)
    found = []
    for one in named:
        name, separator, number = one.rpartition(":")
        apart = bool(separator) and not one.startswith("/") and (one.startswith("[") or ":" not in name)
        name, number = (name, number) if apart else (one, default)
        if not number.isascii() or not number.isdecimal() or not 0 < int(number) < 65536 or "," in name:
            raise Malformed(f"the address of the database names no port in {one}", _LIKE)
        found.append((name.strip("[]"), number))
    return found


def _tls(mode: str | None, hosts: list[str], *, development: bool) -> str:
    if all(host.startswith("/") for host in hosts):
        return mode or "disable"
    if mode is None:
        return _VERIFIED
    near = all(host.startswith("/") or host in LOOPBACK for host in hosts)
    if mode != _VERIFIED and not (development and near):
        raise Malformed(
            f"sslmode={mode} does not prove which database answers",
            "leave sslmode out, and name the database's authority with sslrootcert=/path/to/ca.pem",
        )
    return mode


def own_password_file(home: Path, name: str) -> Path | None:
    """Return the password file that a home's configuration names, below the home unless it says otherwise."""
    return home / os.path.expanduser(name) if name else None
