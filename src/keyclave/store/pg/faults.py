"""What went wrong with the database, told so that somebody can do something about it."""

from __future__ import annotations

import psycopg
from sqlalchemy.exc import DBAPIError

from keyclave.core.errors import Unavailable

FAULTS = (psycopg.Error, DBAPIError)
SERIALIZATION, DEADLOCK, LOCK_TIMEOUT = "40001", "40P01", "55P03"
READ_ONLY = "25006"  # the server was the primary, and is no longer
DISK_FULL = "53100"
NO_RIGHT = "42501"
NO_TABLE, NO_COLUMN = "42P01", "42703"

# What libpq says when it cannot connect, which carries no SQLSTATE: a part of it, what that means, and what to do next.
_SAYINGS = (
    ("password authentication failed", "the database refuses the password", "correct the password file, or PGPASSFILE"),
    ("no password supplied", "the database asks for a password and there is none", "name a `password_file`, or set PGPASSFILE"),
    ("no pg_hba.conf entry", "the database lets nobody in from here as this user", "add a line to its pg_hba.conf, over TLS"),
    ("certificate verify failed", "the certificate of the database is not of the authority that was named",
     "correct sslrootcert, or find out who answers in the database's place"),
    ("does not match host name", "the certificate of the database is of another host",
     "use a name that the certificate holds, or find out who answers in the database's place"),
    ("root certificate file", "there is no certificate to prove the database with",
     "name its authority: sslrootcert=/path/to/ca.pem"),
    ("does not support SSL", "the database does not speak TLS", "turn `ssl` on in its postgresql.conf"),
    ("SSL", "the TLS connection to the database failed", "compare its certificate with sslrootcert"),
    ("unsupported startup parameter", "a connection pooler stands before the database",
     "connect to the database itself: Keyclave needs sessions of its own"),
    ("session is read-only", "only a standby was reached, none that takes writes",
     "name the primary too, or wait for a failover"),
    ("server is in hot standby", "only a standby was reached, none that takes writes", "name the primary too"),
    ("too many connections", "the database has no connection left", "raise its limit of connections, or run fewer nodes"),
    ("too many clients", "the database has no connection left", "raise its max_connections, or run fewer nodes"),
    ("remaining connection slots", "the database has no connection left", "raise its max_connections, or run fewer nodes"),
    ("role \"", "the database knows no such user", "create the role, or correct the address"),
    ("does not exist", "there is no such database", "create it: CREATE DATABASE … OWNER keyclave_owner"),
    ("starting up", "the database is starting", "wait a moment"),
    ("shutting down", "the database is shutting down", "wait until it is up again"),
    ("Connection refused", "nobody listens at the database's address", "start the database, or correct the address"),
    ("could not translate host name", "the name of the database's host is not known", "correct the address"),
    ("failed to resolve host", "the name of the database's host is not known", "correct the address"),
    ("timeout expired", "the database does not answer", "look at the database and the network before it"),
    ("No such file", "there is no socket of a database there", "start the database, or correct the address"),
)  # fmt: skip


def state_of(fault: BaseException) -> str:
    """Return the SQLSTATE of a fault, or nothing."""
    inner = getattr(fault, "orig", None) or fault
    return getattr(inner, "sqlstate", None) or ""


def worth_another_try(fault: BaseException) -> bool:
    """Tell whether the transaction stood in the way of another one and may well succeed now."""
    return state_of(fault) in (SERIALIZATION, DEADLOCK)


def refused(fault: BaseException, shown: str) -> Unavailable:
    """Return why no connection could be made to `shown`."""
    said = str(getattr(fault, "orig", None) or fault)
    for part, what, action in _SAYINGS:
        if part in said:
            return Unavailable(f"{shown}: {what}", action)
    return Unavailable(f"{shown} cannot be reached", "look at the database's log; see docs/postgresql.md")


def unavailable(fault: BaseException | None = None) -> Unavailable:
    """Return what a caller is told whose request met a fault of the database."""
    if fault is not None and state_of(fault) == DISK_FULL:
        return Unavailable("the database's disk is full: nothing was done", "free space there and repeat the request")
    if fault is not None and (worth_another_try(fault) or state_of(fault) == LOCK_TIMEOUT):
        return Unavailable("too many changes at once: nothing was done", "repeat the request")
    if fault is not None and state_of(fault) in (NO_RIGHT, NO_TABLE, NO_COLUMN):
        return Unavailable(
            "the database is not as it was when this server started, and refuses it: nothing was done",
            "see the server's log for what is missing; `keyclave migrate` with the owner's account puts rights in order",
        )
    return Unavailable(
        "the database does not answer: it is not known whether this was done",
        "repeat the request with the same idempotency key; if it persists see the server's log",
    )


def gone() -> Unavailable:
    """Return what a caller is told while the database is known not to answer."""
    return Unavailable("the database does not answer: nothing was done", "repeat the request in a moment")
