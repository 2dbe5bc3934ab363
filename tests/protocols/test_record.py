"""The record over HTTP: one event for each attempt, receipts, tiles and proofs that others can check, and no ePHI in any of it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from keyclave.operations.table import OPERATIONS
from keyclave.policy.duties import DUTIES
from keyclave_verify.checkpoints import parse_checkpoint, parse_trust
from keyclave_verify.receipts import verify_consistency, verify_receipt
from tests.live import ENVIRONMENT, Live, launch
from tests.protocols.every import ROLES, Every, b64, operation

NO_EVENT = re.compile(r"/v1/(health|status|openapi\.json|log/.*|audit/(receipts|consistency).*)")


@dataclass
class Sent:
    """A request as the client saw it: what the event must say."""

    op: str
    token: str
    outcome: str
    event: str
    after: int
    before: int


@dataclass
class Diary:
    """Notes every request of a client that is an attempt of an operation."""

    sent: list[Sent] = field(default_factory=list)
    who: dict[str, dict[str, Any]] = field(default_factory=dict)  # what whoami said, by token

    def note(self, response: httpx.Response) -> None:
        """Be told of an answer (an httpx event hook)."""
        request = response.request
        if NO_EVENT.fullmatch(request.url.path):
            return
        response.read()
        content = response.json()
        unseal = request.url.path == "/v1/unseal"
        if request.url.path.startswith("/v1/login/") and not request.url.path.endswith(("/grant", "/look")):
            return  # whoever logs in is nobody yet: tests of people hold those events to account
        op = "unseal" if unseal else operation(request.method, request.url.raw_path.decode().partition("?")[0]).name
        took = int(response.elapsed.total_seconds() * 1e6)
        now = time.time_ns() // 1000
        outcome = str(content.get("code", "ok"))
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if op == "whoami" and response.status_code == 200:
            self.who[token] = content
        self.sent.append(Sent(op, token, outcome, str(content.get("event")), now - took - 1_000_000, now))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A development server of these tests' own: keys can be destroyed at once there, and nobody else writes its log."""
    server = launch(tmp_path_factory.mktemp("house"), "--development", unseal=False)
    yield server
    server.stop()


def events(live: Live, start: int = 0, token: str = "auditor", **filters: str) -> list[dict[str, Any]]:
    """Return the events of the listing from index `start` on."""
    found: list[dict[str, Any]] = []
    at: int | None = start
    while at is not None:
        page = live.get("/v1/audit/events", token, params={"from": at, "limit": 1000, **filters}).json()
        found += page["events"]
        at = page["next"]
    return found


def published(live: Live, size: int) -> str:
    """Return a checkpoint that covers at least `size` events, once it is signed."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        answer = live.get("/v1/log/checkpoint")
        if answer.status_code == 200 and int(answer.text.split("\n")[1]) >= size:
            return answer.text
        time.sleep(0.05)  # between two looks at a condition
    raise AssertionError(f"no checkpoint of {size} events was signed")


def log_size(live: Live) -> int:
    return int(live.get("/v1/status").json()["log"]["size"])


def refused(live: Live, every: Every, call: Any) -> httpx.Response:
    """Send the request so that it is refused: by the wrong role, else out of reach, else with a query it does not take."""
    strangers = [role for role in ROLES if role not in {r.value for r in DUTIES[call.op.name]}]
    if strangers:
        return call.send(live, every.app if strangers[0] == "application" else strangers[0])  # type: ignore[no-any-return]
    if call.op.on_key:
        return live.get(call.path.replace(every.prefix, "of-nobody"), every.app)
    if call.op.method == "POST":  # a query that it does not take is refused before anybody is known, and leaves no event
        return call.send(live, json={"nonsense": "1"})  # type: ignore[no-any-return]
    return call.send(live, params={"nonsense": "1"})  # type: ignore[no-any-return]


def without_items(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out the items of executions, which follow their execution's event: nobody sent them one by one."""
    kept, items = [], 0
    for event in found:
        if items:
            assert event["approval"] == kept[-1]["approval"]
            items -= 1
            continue
        kept.append(event)
        if event["op"] == "approval-execute" and event["outcome"] == "ok":
            items = event["detail"]["items"]
    return kept


@pytest.mark.requirement("R5", "R14", "P1")
def test_every_operation_leaves_one_event_for_each_attempt(house: Live) -> None:
    every = Every(house, "each")
    credentials: dict[str, dict[str, Any]] = {}
    for token in (*house.tokens.values(), every.app, every.second, *every.people.values()):
        credentials[token] = house.get("/v1/whoami", token).json()
    diary = Diary()
    start = log_size(house)
    house.http.event_hooks = {"response": [diary.note]}
    done = set()
    for call in every:
        if call.token not in house.tokens and call.token not in credentials:
            credentials[call.token] = house.get("/v1/whoami", call.token).json()
        assert refused(house, every, call).status_code in (400, 403, 404), call.path
        answer = call.send(house)
        assert answer.status_code == call.op.status, f"{call.path}: {answer.text}"
        done.add((call.op.method, call.op.path))
    assert house.post("/v1/unseal", body={"share": house.shares[0]}).json()["sealed"] is False
    house.http.event_hooks = {}
    assert done == {(op.method, op.path) for op in OPERATIONS}  # none was left out

    found = without_items([e for e in events(house, start) if e["op"] not in ("authenticate", "login")])[: len(diary.sent)]
    assert [(e["op"], e["outcome"], e["id"]) for e in found] == [(s.op, s.outcome, s.event) for s in diary.sent]
    assert len(diary.sent) >= 2 * len(OPERATIONS)
    for event, sent in zip(found, diary.sent, strict=True):
        assert sent.after <= event["at"] <= sent.before
        assert event["source"] == "127.0.0.1"
        if sent.op == "unseal":
            assert (event["actor"], event.get("credential")) == ("share-holder", None)
            continue
        who = (credentials | every.others).get(sent.token) or diary.who[sent.token]
        actor = (event["actor"], event["credential"], event["role"], event["tenant"])
        assert actor == (who["principal"], who["credential"], who["role"], who["tenant"])


@pytest.mark.requirement("R5", "P1")
def test_bad_requests_of_somebody_known_leave_their_event_too(house: Live) -> None:
    house.create_key("bad")
    app = house.token(["encrypt", "decrypt"], ["bad"])
    start = log_size(house)
    sent = [
        house.request("POST", "/v1/keys/bad/encrypt", app, content=b"{"),
        house.request("POST", "/v1/keys/bad/encrypt", app, content=b'{"plaintext": "\xff"}'),
        house.post("/v1/keys/bad/encrypt", app, {"plaintext": "!"}),
        house.post("/v1/keys/bad/decrypt", app, {"ciphertext": b64(bytes(200))}),
        house.post("/v1/keys/none/encrypt", app, {"plaintext": ""}),
        house.post("/v1/keys/bad/encrypt/batch", app, {"items": []}),
    ]
    found = events(house, start)[: len(sent)]
    assert [(e["id"], e["outcome"]) for e in found] == [(a.json()["event"], a.json()["code"]) for a in sent]
    assert [e["outcome"] for e in found] == ["malformed"] * 3 + ["undecipherable", "unknown", "malformed"]
    assert all(e["actor"].startswith("app-") and e["outcome"] != "ok" for e in found)


@pytest.mark.requirement("R5", "P8")
def test_a_batch_is_one_attempt_with_counts_and_as_many_events_as_its_contexts_need(house: Live) -> None:
    house.create_key("many")
    app = house.token(["encrypt"], ["many"])
    items: list[Any] = [{"plaintext": "", "context": {"patient": f"p{i}", "visit": f"v{i}"}} for i in range(1000)]
    items[999] = {"plaintext": "", "context": {"two words": "v"}}  # found when the others' contexts have been looked at
    start = log_size(house)
    answer = house.post("/v1/keys/many/encrypt/batch", app, {"items": items}).json()
    key = house.get("/v1/keys/many", "custodian").json()["id"]
    parts = [e for e in events(house, start, operation="encrypt")]
    assert len(parts) > 1
    assert [e["part"] for e in parts] == list(range(1, len(parts) + 1))
    assert [e["index"] for e in parts] == list(range(start, start + len(parts)))
    assert answer["event"] == parts[0]["id"]
    for part in parts:
        assert (part["count"], part["failed"], part["outcome"], part["key"]) == (1000, 1, "ok", key)
        assert part["detail"] == {"malformed": 1}
        assert len(json.dumps(part)) < 65_535
    for name in ("patient", "visit"):
        tags = [tag for part in parts for tag in part["context"].get(name, [])]
        assert len(tags) == len(set(tags)) == 999


@pytest.mark.requirement("R5", "R40", "P2")
def test_everybody_gets_receipts_of_their_own_attempts_and_they_verify(house: Live) -> None:
    house.create_key("proven")
    app, other = house.token(["encrypt", "random"], ["proven"]), house.token(["random"], ["*"])
    ours = {
        app: [
            house.post("/v1/keys/proven/encrypt", app, {"plaintext": ""}),
            house.post("/v1/keys/proven/encrypt", app, {"plaintext": "?"}),
        ],
        "custodian": [house.post("/v1/keys", "custodian", {"name": "proven", "owner": "o"})],
        "operator": [house.post("/v1/keys/proven/rotate", "operator")],
        "auditor": [house.get("/v1/keys", "auditor")],
    }
    trust = parse_trust(house.get("/v1/log/keys").text)
    for token, answers in ours.items():
        for answer in answers:
            event = answer.json()["event"]
            receipt = house.get(f"/v1/audit/receipts/{event}", token)
            assert receipt.status_code == 200, receipt.text
            report = verify_receipt(receipt.content, "receipt", trust)
            assert report.good, report.to_text(color=False)
            assert report.facts["event"]["outcome"] == answer.json().get("code", "ok")  # type: ignore[index]
            assert house.get(f"/v1/audit/receipts/{event}", "auditor").json()["leaf"] == receipt.json()["leaf"]
            changed = receipt.json()
            changed["leaf"] = b64(base64.b64decode(changed["leaf"]).replace(b'"op":"', b'"op":"x'))
            assert not verify_receipt(json.dumps(changed).encode(), "receipt", trust).good
    event = ours[app][0].json()["event"]
    node = event.partition("-")[0]
    absent = [
        house.get(f"/v1/audit/receipts/{name}", other) for name in (f"{node}-999999999", "of-nobody-1", f"{node}-007", "%00")
    ]
    for token in (other, "custodian", "operator"):
        answer = house.get(f"/v1/audit/receipts/{event}", token)
        assert answer.status_code == 404
        assert {answer.content} == {a.content for a in absent}


# ---- tiles, bundles, proofs, the whole log ------------------------------------------------------------------------------------
def leaf(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def tree(hashes: list[bytes]) -> bytes:
    """Return the root over leaf hashes, straight from the definition (RFC 6962 section 2.1)."""
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return hashlib.sha256(b"\x01" + tree(hashes[:split]) + tree(hashes[split:])).digest()


def served(live: Live, path: str) -> bytes:
    answer = live.get(f"/v1/log/{path}", "auditor")
    assert answer.status_code == 200, f"{path}: {answer.text}"
    return answer.content


def widths(count: int) -> list[tuple[str, int]]:
    """Return (path end, width) of the tiles that hold `count` hashes; a log of these tests is under 256,000."""
    full, rest = divmod(count, 256)
    return [(f"{i:03}", 256) for i in range(full)] + ([(f"{full:03}.p/{rest}", rest)] if rest else [])


def split_bundle(data: bytes) -> list[bytes]:
    found = []
    while data:
        length = int.from_bytes(data[:2], "big")
        found.append(data[2 : 2 + length])
        assert len(found[-1]) == length
        data = data[2 + length :]
    return found


@pytest.fixture(scope="module")
def long_log(house: Live) -> str:
    """Return a checkpoint of a log of more than two tiles."""
    app = house.token(["random"], ["*"])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: house.post("/v1/random", app, {"bytes": 1}), range(560)))
    return published(house, log_size(house))


def sized(checkpoint: str) -> tuple[int, bytes]:
    _, size, root, *_ = checkpoint.split("\n")
    return int(size), base64.b64decode(root)


@pytest.mark.requirement("R40", "P2")
def test_tiles_and_bundles_are_those_that_the_entries_give(house: Live, long_log: str) -> None:
    size, root = sized(long_log)
    entries: list[bytes] = []
    for end, width in widths(size):
        bundle = split_bundle(served(house, f"tile/entries/{end}"))
        hashes = b"".join(map(leaf, bundle))
        assert len(bundle) == width
        assert served(house, f"tile/0/{end}") == hashes
        entries += bundle
    leaves = [leaf(entry) for entry in entries]
    assert tree(leaves) == root
    above = [tree(leaves[i : i + 256]) for i in range(0, size - size % 256, 256)]
    assert served(house, f"tile/1/000.p/{len(above)}") == b"".join(above)
    assert served(house, "tile/0/000.p/7") == b"".join(leaves[:7])
    assert split_bundle(served(house, "tile/entries/001.p/5")) == entries[256:261]
    listed = [e for e in events(house) if e["index"] < size]
    assert [json.loads(entries[e["index"]]) | {"index": e["index"]} for e in listed] == listed
    for at, entry in enumerate(entries):
        event = json.loads(entry)
        assert event["id"].rpartition("-")[2] == str(at)
    for path in ("tile/0/900", "tile/0/900.p/1", "tile/2/000.p/1", "tile/entries/900"):
        assert house.get(f"/v1/log/{path}", "auditor").json()["code"] == "unknown", path
    for path in (
        "tile/0/0",
        "tile/64/000",
        "tile/0/000.p/256",
        "tile/0/000.p/0",
        "tile/00/000",
        "tile/0/x000/000",
        "tile/-1/000",
    ):
        assert house.get(f"/v1/log/{path}", "auditor").json()["code"] == "malformed", path


@pytest.mark.requirement("R40", "P2")
def test_the_proof_between_any_two_checkpoints_verifies(house: Live, long_log: str) -> None:
    trust = parse_trust(house.get("/v1/log/keys").text)
    sizes = house.get("/v1/log/checkpoints", "auditor").json()["sizes"]
    assert sizes == sorted(set(sizes))
    assert sized(long_log)[0] in sizes
    new = parse_checkpoint(long_log.encode(), "new")
    kept = [size for size in sizes if size <= new.size]
    for size in {kept[0], kept[len(kept) // 2], kept[-1]}:
        answer = house.get(f"/v1/log/checkpoint/{size}")
        old = parse_checkpoint(answer.content, f"checkpoint {size}")
        assert old.size == size
        proof = house.get("/v1/audit/consistency", "auditor", params={"from": size, "to": new.size})
        report = verify_consistency(old, new, trust, proof.content)
        assert report.good, report.to_text(color=False)
        wrong = proof.json()
        if wrong["proof"]:
            wrong["proof"][0] = b64(bytes(32))
            assert not verify_consistency(old, new, trust, json.dumps(wrong).encode()).good
    assert house.get("/v1/log/checkpoint/123456789").json()["code"] == "unknown"
    assert house.get("/v1/log/checkpoint/99999999999999999999").json()["code"] == "unknown"
    query: list[tuple[dict[str, Any], str]] = [
        ({"from": 5, "to": 10**9}, "unknown"), ({"from": 5, "to": 4}, "malformed"), ({"from": -1, "to": 4}, "malformed"),
        ({"from": 1}, "malformed"), ({"from": 1, "to": 10**30}, "malformed"), ({"from": 1, "to": "x"}, "malformed"),
    ]  # fmt: skip
    for params, code in query:
        assert house.get("/v1/audit/consistency", "auditor", params=params).json()["code"] == code
    for after in ("99999999999999999999", "-1", "x"):
        assert house.get("/v1/log/checkpoints", "auditor", params={"after": after}).json()["code"] == "malformed"


def export(live: Live, checkpoint: str, folder: Path) -> Path:
    """Fetch the whole log as the layout that the verifier reads."""
    size, _ = sized(checkpoint)
    files: dict[str, bytes] = {"checkpoint": checkpoint.encode(), "keys": live.get("/v1/log/keys").content}
    for kept in live.get("/v1/log/checkpoints", "auditor").json()["sizes"]:
        if kept < size:
            files[f"checkpoints/{kept}"] = live.get(f"/v1/log/checkpoint/{kept}").content
    levels = [("entries", size), ("0", size), ("1", size >> 8)]
    for level, count in levels:
        for end, _ in widths(count):
            files[f"tile/{level}/{end}"] = served(live, f"tile/{level}/{end}")
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def verify(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "keyclave_verify", *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


@pytest.mark.requirement("R5", "R7", "R40", "P2")
def test_the_whole_log_fetched_over_http_verifies_offline_and_one_changed_byte_does_not(
    house: Live, long_log: str, tmp_path: Path
) -> None:
    log = export(house, long_log, tmp_path / "log")
    trusted = tmp_path / "vkeys"
    trusted.write_text("\n".join(house.get("/v1/log/keys").json()["vkeys"]))
    good = verify("log", log, "--vkey-file", trusted, "--strict", "--json")
    assert good.returncode == 0, good.stdout + good.stderr
    assert json.loads(good.stdout)["size"] == sized(long_log)[0]
    victim = log / "tile/entries/001"
    data = victim.read_bytes()
    at = data.index(b'"outcome":"ok"') + 11
    victim.write_bytes(data[:at] + b"k" + data[at + 1 :])
    bad = verify("log", log, "--vkey-file", trusted, "--json")
    assert bad.returncode == 1
    assert "entry_mismatch" in bad.stdout


# ---- who reads, and what is not there -----------------------------------------------------------------------------------------
@pytest.mark.requirement("R5", "R10")
@pytest.mark.parametrize(
    "path", ["audit/events", "audit/consistency?from=0&to=1", "log/tile/0/000.p/1", "log/tile/entries/000.p/1", "log/checkpoints"]
)
def test_the_record_is_for_auditors(house: Live, long_log: str, path: str) -> None:
    assert house.get(f"/v1/{path}", "auditor").status_code == 200
    app = house.token(["encrypt"], ["*"])
    for token in ("custodian", "operator", app):
        assert house.get(f"/v1/{path}", token).json()["code"] == "refused"
    assert house.get(f"/v1/{path}").status_code == 401
    assert house.get(f"/v1/{path}", "kct_nobody").status_code == 401


@pytest.mark.requirement("R40")
@pytest.mark.parametrize("path", ["checkpoint", "keys"])
def test_checkpoint_and_keys_are_for_everybody(house: Live, long_log: str, path: str) -> None:
    assert house.get(f"/v1/log/{path}").status_code == 200


@pytest.mark.requirement("R5")
def test_events_are_found_by_key_actor_operation_and_outcome_and_come_in_pages(house: Live) -> None:
    key = house.create_key("found")["id"]
    app = house.token(["mac", "encrypt"], ["found"])
    actor = house.get("/v1/whoami", app).json()["principal"]
    for body in ({"plaintext": ""}, {"plaintext": "!"}, {"plaintext": ""}):
        house.post("/v1/keys/found/encrypt", app, body)
    for filters, expected in [
        ({"actor": actor, "operation": "encrypt"}, ["ok", "malformed", "ok"]),
        ({"actor": actor, "outcome": "ok", "operation": "encrypt"}, ["ok", "ok"]),
        ({"key": key, "operation": "key-create"}, ["ok"]),
        ({"key": key, "actor": "somebody-else"}, []),
    ]:
        assert [e["outcome"] for e in events(house, **filters)] == expected
    start = events(house, actor=actor)[0]["index"]
    first = house.get("/v1/audit/events", "auditor", params={"from": start, "limit": 2, "actor": actor}).json()
    assert len(first["events"]) == 2
    rest = events(house, first["next"], actor=actor)
    assert [e["op"] for e in first["events"] + rest] == ["whoami", "encrypt", "encrypt", "encrypt"]
    for params in ({"from": -1}, {"limit": 0}, {"limit": 1001}, {"from": 2**53 + 1}, {"who": "x"}):
        assert house.get("/v1/audit/events", "auditor", params=params).json()["code"] == "malformed"


@pytest.mark.requirement("R5", "P8")
def test_context_values_never_reach_the_log_or_the_disk_and_their_tags_can_be_compared(house: Live) -> None:
    patient, diagnosis = "Erika Mustermann 12.8.1964", "C50.9 mamma carcinoma"
    house.create_key("shy")
    app = house.token(["encrypt", "decrypt", "data-key"], ["shy"])
    context = {"patient": patient, "diagnosis": diagnosis, "purpose": "treatment"}
    start = log_size(house)
    sealed = house.post("/v1/keys/shy/encrypt", app, {"plaintext": b64(b"x"), "context": context}).json()["ciphertext"]
    house.post("/v1/keys/shy/decrypt", app, {"ciphertext": sealed, "context": context})
    house.post("/v1/keys/shy/decrypt", app, {"ciphertext": sealed, "context": {"patient": patient}})
    house.post("/v1/keys/shy/data-key", app, {"context": {"other": patient, "patient": diagnosis}})
    batch = [{"plaintext": "", "context": {"patient": patient}}, {"plaintext": "", "context": {"patient": diagnosis}}]
    house.post("/v1/keys/shy/encrypt/batch", app, {"items": [*batch, *batch]})
    made, opened, wrong, other, several = (e["context"] for e in events(house, start) if e["actor"].startswith("app-"))
    assert made == opened
    assert made["purpose"] == ["p:treatment"]
    for tags in (made["patient"], made["diagnosis"], wrong["patient"], other["other"], other["patient"]):
        assert re.fullmatch(r"h:[A-Za-z0-9_-]{22}", tags[0])
    assert wrong["patient"] == made["patient"]  # equal for equal values of one name, whatever became of the attempt
    assert other["other"] != made["patient"]  # and of no other name
    assert other["patient"] != made["diagnosis"]
    assert sorted(several["patient"]) == sorted([*made["patient"], *other["patient"]])  # each value once
    published(house, log_size(house))
    assert_nowhere(house, [patient.encode(), diagnosis.encode()])


def assert_nowhere(live: Live, secrets: list[bytes]) -> None:
    """Look for the values, as they are and as base64, in the database with its log and in what the process said."""
    stored, said = live.stored(), live.log_file.read_bytes()
    assert said
    assert b'"op":"encrypt"' in stored  # events are there in the clear: the search can find things
    forms: list[Callable[[bytes], bytes]] = [bytes, base64.b64encode, base64.urlsafe_b64encode, lambda s: s.hex().encode()]
    for place, data in (("the store", stored), ("the server's log", said)):
        for secret in secrets:
            for form in forms:
                assert form(secret).rstrip(b"=") not in data, f"{secret!r} in {place}"


@pytest.mark.requirement("R5", "P1")
def test_failed_authentication_is_counted_not_listed(house: Live) -> None:
    start = log_size(house)
    began = time.monotonic()
    wrong = [f"kct_wrong-token-{i:04}" for i in range(60)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda token: house.get("/v1/whoami", token).status_code, wrong))
    assert answers == [401] * 60
    assert house.get("/v1/whoami").status_code == 401
    assert house.post("/v1/keys", "kct_wrong", {}).status_code == 401
    deadline = time.monotonic() + 20
    found: list[dict[str, Any]] = []
    while sum(e.get("count", 1) for e in found) < 62 and time.monotonic() < deadline:
        found = events(house, start, operation="authenticate")
    seconds = time.monotonic() - began
    assert sum(e.get("count", 1) for e in found) == 62
    assert len(found) <= seconds + 1
    for event in found:
        assert (event["actor"], event["outcome"], event["source"]) == ("nobody", "unauthenticated", "127.0.0.1")
        assert event.get("failed", 0) == event.get("count", 1)
        assert "credential" not in event
    assert_nowhere(house, [wrong[0].encode(), wrong[-1].encode()])
