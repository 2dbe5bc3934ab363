"""What the server says of itself, of the caller, and of its record; and whether the disk of a local one has room."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from keyclave_cli.diagnosis.finding import Finding, fail, ok, skipped, warn
from keyclave_cli.output import size_text
from keyclave_cli.problems import describe
from keyclave_cli.session import Connection, Session

if TYPE_CHECKING:
    from keyclave_client import Client
    from keyclave_client.views import Status

_DAY = 86_400
_CREDENTIAL_DAYS = 7
_LITTLE = 1 << 30
_TOO_LITTLE = 100 << 20


def examine(session: Session, connection: Connection) -> Iterator[Finding]:
    """Yield the findings on a server that answers."""
    with session.client(authenticated=False) as client:
        said = client.status()
        yield from _state(said)
        yield _root(said)
        yield from _credential(client, said, connection)
        yield _record(client)
        yield from _way_back(client, said, connection)
    yield from _disk(session)


def _state(said: Status) -> Iterator[Finding]:
    if said.sealed:
        given = f"{said.unseal.get('received', 0)} of {said.unseal.get('threshold', '?')} shares given"
        yield fail("sealed", f"the server is sealed, {given}: no key can be used", "custodians open it with `keyclave unseal`")
    else:
        yield ok("sealed", "the server is open")
    module = said.module
    name = f"{module.get('name')} {module.get('version')}"
    if module.get("certificate"):
        yield ok("module", f"{name}, certificate {module['certificate']}")
    else:
        yield warn(
            "module", f"{name}, not a validated module", "known and stated; where policy demands FIPS 140, use a validated one"
        )


def _root(said: Status) -> Finding:
    if said.development:
        advice = "never keep real patient data here; hold the ceremony with `keyclave init` without --development"
        return warn(
            "root", "DEVELOPMENT ROOT: the recovery key lies on the server's disk and opens it without custodians", advice
        )
    return ok("root", f"opened by {said.unseal.get('threshold', '?')} custodians")


def _credential(client: Client, said: Status, connection: Connection) -> Iterator[Finding]:
    if connection.token is None:
        yield skipped("credential", "none is given", "give --token-file or --profile to have it checked")
        return
    if connection.token_source == "KEYCLAVE_TOKEN":
        advice = "put it into a file (0600) and set KEYCLAVE_TOKEN_FILE"
        yield warn("credential", "it is in the environment, where child processes and crash reports see it", advice)
    if said.sealed:
        yield skipped("credential", "a sealed server does not say who you are")
        return
    try:
        me = client.whoami()
    except Exception as error:
        problem = describe(error)
        if problem is None:
            raise
        yield fail("credential", problem.detail, problem.hint)
        return
    who = f"{me.principal}, {me.role}"
    if me.expires_at is None:
        yield ok("credential", who)
        return
    left = datetime.fromisoformat(me.expires_at).timestamp() - time.time()
    span = f"{left / _DAY:.0f} days" if left >= _DAY else f"{left / 3600:.1f} hours"
    if left < _CREDENTIAL_DAYS * _DAY:
        yield warn("credential", f"{who}, expires in {span}", "ask an operator or custodian for a new one in time")
    else:
        yield ok("credential", f"{who}, valid for {span}")


def _way_back(client: Client, said: Status, connection: Connection) -> Iterator[Finding]:
    """Tell whether enough people are left to change the policy, which is what every other repair begins with."""
    if connection.token is None or said.sealed:
        return
    try:
        closed = client.plan_policy(client.policy()["files"], reach=False)["refused"]
    except Exception as error:
        if describe(error) is None:
            raise
        return  # not everybody may ask: those who keep the policy are told
    if closed:
        yield warn("approvers", "nothing that waits for approval can be done now", closed)
    else:
        yield ok("approvers", "enough people can approve a change of the policy")


def _record(client: Client) -> Finding:
    """Verify the newest checkpoint, and that it does not fall behind the one kept here."""
    from keyclave_cli.record.continuation import check_continuation

    try:
        return check_continuation(client)
    except Exception as error:
        problem = describe(error)
        if problem is None:
            raise
        return fail("record", problem.detail, problem.hint)


def _disk(session: Session) -> Iterator[Finding]:
    home = session.local_home()
    if home is None:
        return
    if not os.path.isdir(home):
        yield fail("disk", f"{home}: there is no such home", "name the folder that `keyclave init --home` made")
        return
    free = shutil.disk_usage(home).free
    said = f"{size_text(free)} free for {home}"
    if free < _TOO_LITTLE:
        yield fail("disk", said, "make room now: without it the server refuses operations, since it cannot record them")
    elif free < _LITTLE:
        yield warn("disk", said, "make room soon: a server that cannot record refuses")
    else:
        yield ok("disk", said)
