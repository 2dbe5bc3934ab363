"""What policy costs: a use that policy permits and whose context it checks, a decision nobody remembers, a large policy applied.

The home has 200 policies (or 2,000), 50 roles and 10,000 principals, written into its database before its server starts: how they
came there is not measured.
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median, quantiles

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.load import Endpoint, Work, Wrk
from bench.ours import KEY, Keyclave
from keyclave.identity.caller import Caller, Credential, Standing
from keyclave.identity.peer import Peer
from keyclave.identity.roles import Role
from keyclave.identity.scope import Scope
from keyclave.keys.model import Cryptoperiod, Key
from keyclave.operations.access import Access
from keyclave.operations.policy.supposing import Supposed
from keyclave.operations.revisions import Revisions
from keyclave.operations.table import OPERATIONS
from keyclave.policy.bundle import checked_bundle, standard
from keyclave.store.sqlite import SqliteStore
from keyclave_client import Client
from keyclave_client.own_key import OwnKey

POLICIES, ROLES, PRINCIPALS, LARGE = 200, 50, 10_000, 2_000
CONNECTIONS = 64
_FOREVER = 2**60


@dataclass(frozen=True)
class Authorised:
    """Medians: requests a second that policy permits and whose context it checks; with a scope alone; with a scope and the same
    context; and of both with another patient in each request."""

    policy: float
    scope: float
    scope_with_context: float
    policy_new_contexts: float
    scope_new_contexts: float


@dataclass(frozen=True)
class Applied:
    """Seconds of one apply, and the longest answer in milliseconds that anybody waited for meanwhile, and just before."""

    seconds: float
    longest: float
    usual: float


# ---- a policy of that size ------------------------------------------------------------------------------------------------
def bundle(number: int) -> dict[str, str]:
    """Return a bundle of about `number` policies: permits of workloads with conditions on the context, permits of roles that ask
    assurance, guardrails."""
    files = dict(standard(people="tokens").files)
    roles = [f"role-{n}" for n in range(ROLES)]
    duties = ("operator", "custodian", "auditor")
    files["rules.toml"] += "".join(f'\n[roles.{name}]\nduty = "{duties[n % 3]}"\n' for n, name in enumerate(roles))
    files["rules.toml"] += '\n[networks]\nwards = ["127.0.0.0/8", "10.0.0.0/8"]\n'
    texts = [_policy(n, roles) for n in range(number - 4)]
    files["all.cedar"] = "\n".join(texts) + _PERMIT
    return files


_PERMIT = f"""
@id("bench-encrypts")
@context("ward=3|4; patient=*")
permit (principal == Workload::"bench-policy", action in [Action::"encrypt", Action::"decrypt"], resource)
when {{ resource.name == "{KEY}" && context.networks.contains(Network::"wards") }};
"""


def _policy(n: int, roles: list[str]) -> str:
    use = ("encrypt", "decrypt", "data-key", "sign", "mac")[n % 5]
    if n % 20 < 12:
        return (
            f'@id("app-{n}") @context("ward=w{n}|w{n + 1}; patient=*") permit (principal == Workload::"app-{n}", '
            f'action == Action::"{use}", resource in Tag::"app=a{n % 40}") when {{ context.purpose == "treatment" }};'
        )
    if n % 20 < 16:
        return (
            f'@id("role-{n}") permit (principal in Role::"{roles[n % ROLES]}", action in [Action::"rotate", Action::"suspend"], '
            f'resource in Tag::"team=t{n % 30}") when {{ context.aal >= 2 && context.fresh }};'
        )
    return (
        f'@id("guard-{n}") forbid (principal, action in [Action::"{use}", Action::"key-update"], resource in Tag::"env=e{n}") '
        'unless { context.networks.contains(Network::"wards") };'
    )


def fill(server: Keyclave, files: dict[str, str]) -> None:
    """Put a policy in force and name its principals, in the database of a server that is not running."""
    digest = checked_bundle(files).digest()
    conn = sqlite3.connect(server.home / "keyclave.db", isolation_level=None)
    tenant = conn.execute("SELECT id FROM tenants WHERE home").fetchone()[0]
    at = time.time_ns() // 1000
    conn.execute("BEGIN")
    kept = (tenant, 2, json.dumps(files), digest, at, "bench", "apr_bench")
    conn.execute("INSERT INTO policy_revisions VALUES (?, ?, ?, ?, ?, ?, ?)", kept)
    rows = [(tenant, f"person-{n}", ("operator", "custodian", "auditor")[n % 3], at, "person") for n in range(PRINCIPALS)]
    conn.executemany("INSERT INTO principals (tenant, name, role, created_at, kind) VALUES (?, ?, ?, ?, ?)", rows)
    conn.execute("COMMIT")
    conn.close()


# ---- the hot path ---------------------------------------------------------------------------------------------------------
def authorised(wrk: Wrk, folder: Path, plain: Keyclave, rounds: int, seconds: float) -> Authorised:
    """Measure uses that policy permits beside uses that a scope permits, on two servers, taking turns."""
    server = Keyclave(folder, "authorised", tls=False)
    try:
        fill(server, bundle(POLICIES))
        server.start()
        server.unseal()
        server.furnish()
        operator = server.made["credentials"]["operator"]
        asked = {"principal": "bench-policy", "role": "application", "ttl_seconds": 36_000}
        token = server.post("/v1/credentials", operator, {**asked, "scope": {"operations": ["mac"], "keys": ["*"]}})["token"]
        by_policy = Endpoint(server.endpoint().process, server.url, lambda _work: ("Authorization", f"Bearer {token}"))
        by_scope = Endpoint(plain.endpoint().process, plain.url, lambda _work: ("Authorization", f"Bearer {plain.token}"))
        loads = [
            (by_policy, _encrypt("p-1")),
            (by_scope, _encrypt()),
            (by_scope, _encrypt("p-1")),
            (by_policy, _encrypt("p-@")),
            (by_scope, _encrypt("p-@")),
        ]
        seen: list[list[float]] = [[] for _ in loads]
        for number in range(rounds + 1):
            for place, (where, work) in enumerate(loads):
                rate = wrk.run(where, work, CONNECTIONS, seconds).requests_per_second
                if number:  # the first round fills memories
                    seen[place].append(rate)
        return Authorised(*(median(rates) for rates in seen))
    finally:
        server.stop()


def _encrypt(patient: str = "") -> Work:
    body = {"plaintext": base64.b64encode(bytes(64)).decode()}
    named = {"context": {"ward": "3", "patient": patient}} if patient else {}
    return Work(f"/v1/keys/{KEY}/encrypt", json.dumps({**body, **named}))


# ---- a decision that nobody remembers -------------------------------------------------------------------------------------
def uncached_milliseconds(database: Path, decisions: int = 5_000) -> tuple[float, float]:
    """Return the median and the 99th percentile of decisions on callers of many names, none of them remembered."""
    store = SqliteStore(database)
    try:
        access = Access(Revisions(store, OPERATIONS))
        compiled = access.revisions.compiler.compile(checked_bundle(bundle(POLICIES)))
    finally:
        store.close()
    rolling = random.Random(7)  # the same questions in each run
    keys = [_key(n) for n in range(500)]
    times = []
    for number in range(decisions + 500):
        asking, key = _asking(rolling, number), rolling.choice(keys)
        began = time.perf_counter_ns()
        access.suppose(asking, key, compiled)
        times.append((time.perf_counter_ns() - began) / 1e6)
    return median(times[500:]), quantiles(times[500:], n=100)[98]


def _asking(rolling: random.Random, number: int) -> Supposed:
    person = number % 3 == 0
    role = rolling.choice((Role.OPERATOR, Role.CUSTODIAN)) if person else Role.APPLICATION
    name = f"person-{rolling.randrange(PRINCIPALS)}" if person else f"app-{rolling.randrange(POLICIES)}"
    credential = Credential(
        id="crd", tenant="ten", principal=name, role=role, scope=None if person else Scope(operations=("encrypt",), keys=("*",)),
        created_at=0, created_by="", expires_at=_FOREVER,
    )  # fmt: skip
    standing = Standing(aal=2, person=person, roles=(role.value, f"role-{rolling.randrange(ROLES)}"))
    action = rolling.choice(("rotate", "suspend", "key-update") if person else ("encrypt", "decrypt", "sign", "mac"))
    return Supposed(action, 1, Caller(credential, standing), Peer("127.0.0.1"), "treatment")


def _key(n: int) -> Key:
    return Key(
        id=f"key_{n}", tenant="ten", name=f"k-{n}", spec="aes-256", purpose="encrypt", owner="x", environment="test",
        classification="ePHI", location="software", tags={"app": f"a{n % 40}", "team": f"t{n % 30}", "env": f"e{n}"},
        cryptoperiod=Cryptoperiod(protect_days=1, process_days=1), rotation=None, created_at=0, created_by="", primary=None, rev=1,
    )  # fmt: skip


# ---- a large policy, applied ----------------------------------------------------------------------------------------------
def applying(folder: Path, rounds: int) -> Applied:
    """Apply 2,000 policies on a server of its own that others use meanwhile, each time other ones."""
    server = Keyclave(folder, "applying", tls=False)
    try:
        fill(server, bundle(POLICIES))
        server.start()
        server.unseal()
        server.furnish()
        signers = {role: _enrolled(server, role) for role in ("custodian", "operator", "auditor")}
        found = [_apply_once(server, number, signers["operator"]) for number in range(rounds + 1)][1:]
        return Applied(*(median(getattr(one, name) for one in found) for name in ("seconds", "longest", "usual")))
    finally:
        server.stop()


def _enrolled(server: Keyclave, role: str) -> tuple[OwnKey, str]:
    """Return a key of somebody's own and the id under which it is enrolled."""
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key = OwnKey(pem)
    with Client(server.url, server.made["credentials"][role]) as client:
        return key, client.enrol_key(key.public_key, key.sign, "bench").id


def _approve(server: Keyclave, approval: str, signer: tuple[OwnKey, str]) -> None:
    """Have the operator sign."""
    key, authenticator = signer
    operator, path = server.made["credentials"]["operator"], f"/v1/approvals/{approval}"
    statement = server.post(f"{path}/begin", operator, {"authenticator": authenticator})["statement"]
    signature = base64.b64encode(key.sign(statement.encode())).decode()
    server.post(f"{path}/sign", operator, {"statement": statement, "signature": signature})


def _apply_once(server: Keyclave, number: int, signer: tuple[OwnKey, str]) -> Applied:
    files = bundle(LARGE)
    files["all.cedar"] = files["all.cedar"].replace("app=a", f"app=b{number}-")
    custodian = server.made["credentials"]["custodian"]
    with Client(server.url, custodian) as client:
        expected = client.policy()["revision"]
        asked = client.request_policy(files, expected, "bench")["id"]
    _approve(server, asked, signer)
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as watching,
        Client(server.url, custodian, timeout=120, approval=asked) as client,
    ):
        watching.submit(time.sleep, 0).result()  # its process has started
        usual = watching.submit(longest_wait, server.port, server.token, 2.0).result()
        during = watching.submit(longest_wait, server.port, server.token, 6.0)
        began = time.perf_counter()
        client.apply_policy(files, expected, reason="bench")
        seconds = time.perf_counter() - began
        return Applied(seconds, during.result(), usual)


def longest_wait(port: int, token: str, seconds: float) -> float:
    """Encrypt on one connection for a while; return the longest answer in milliseconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    work = _encrypt()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    longest, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        connection.request("POST", work.path, work.body, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"the server answered {answer.status}")
        longest = max(longest, (time.perf_counter() - began) * 1000)
    return longest


def main(arguments: Sequence[str]) -> None:
    """Measure alone, and print."""
    folder = Path(arguments[1])
    server = Keyclave(folder, "plain", tls=False)
    try:
        server.start()
        server.unseal()
        server.furnish()
        print(authorised(Wrk("wrk", folder), folder, server, 3, 3))
    finally:
        server.stop()
    print(uncached_milliseconds(server.home / "keyclave.db"))
    print(applying(folder, 3))


if __name__ == "__main__":
    import sys

    main(sys.argv)
