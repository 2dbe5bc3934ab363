"""Grants on a live server: what they permit, that nothing else is permitted, and that taking them away is at once."""

from __future__ import annotations

import base64
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.live import Live

PLAIN = base64.b64encode(b"record").decode()
_number = itertools.count()


class App:
    """An application whose own scope reaches nothing: what it can do, it was granted."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.name = f"grantee-{next(_number)}"
        scope = {"operations": ["encrypt"], "keys": ["nothing-at-all"]}
        body = {"principal": self.name, "role": "application", "ttl_seconds": 3600, "scope": scope}
        made = live.post("/v1/credentials", "operator", body)
        assert made.status_code == 201, made.text
        self.token = str(made.json()["token"])

    def use(self, key: str, verb: str = "encrypt", context: dict[str, str] | None = None, **kwargs: Any) -> httpx.Response:
        return self.live.post(f"/v1/keys/{key}/{verb}", self.token, {"plaintext": PLAIN, "context": context or {}}, **kwargs)


@pytest.fixture
def app(live: Live) -> App:
    return App(live)


@pytest.fixture
def key(live: Live) -> str:
    return str(live.create_key(f"granted-{next(_number)}")["name"])


def give(live: Live, app: App, key: str, by: str = "operator", **more: Any) -> dict[str, Any]:
    body = {"grantee": app.name, "operations": ["encrypt"], "keys": [key], "ttl_seconds": 600, **more}
    answer = live.post("/v1/grants", by, body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


@pytest.mark.requirement("R29")
def test_a_grant_permits_from_the_next_request_until_the_next_after_it_is_revoked(live: Live, app: App, key: str) -> None:
    assert app.use(key).status_code == 404
    grant = give(live, app, key)
    answer = app.use(key)
    assert answer.status_code == 200
    events = live.get("/v1/audit/events", "auditor", params={"actor": app.name}).json()["events"]
    assert (events[-1]["grant"], events[-1]["outcome"]) == (grant["id"], "ok")
    assert live.post(f"/v1/grants/{grant['id']}/revoke", "operator", {"reason": "left"}).json()["status"] == "revoked"
    assert app.use(key).status_code == 404
    assert live.post(f"/v1/grants/{grant['id']}/revoke", "custodian").status_code == 200  # a second time is no error
    assert live.get(f"/v1/grants/{grant['id']}", "auditor").json()["ended_by"] == "first-operator"


@pytest.mark.requirement("R29")
def test_only_what_is_named_is_granted(live: Live, app: App, key: str) -> None:
    give(live, app, key)
    other = live.create_key(f"other-{next(_number)}")["name"]
    assert app.use(other).status_code == 404
    sealed = app.use(key).json()["ciphertext"]
    assert live.post(f"/v1/keys/{key}/decrypt", app.token, {"ciphertext": sealed}).status_code == 404
    assert live.get(f"/v1/keys/{key}", app.token).status_code == 404
    assert live.post("/v1/keys", app.token, {"name": "mine", "owner": "me"}).status_code == 403


@pytest.mark.requirement("R29")
@pytest.mark.parametrize("by", ["id", "name", "prefix"])
def test_keys_are_named_by_id_name_or_prefix(live: Live, app: App, key: str, by: str) -> None:
    patterns = {"id": live.get(f"/v1/keys/{key}", "auditor").json()["id"], "name": key, "prefix": key[:-1] + "*"}
    give(live, app, patterns[by])
    assert app.use(key).status_code == 200


@pytest.mark.requirement("R29")
@pytest.mark.parametrize(
    ("bound", "exact", "context", "expected"),
    [
        ({"patient": ["1", "2"]}, False, {"patient": "2", "ward": "3"}, 200),
        ({"patient": ["1", "2"]}, False, {"patient": "3"}, 403),
        ({"patient": ["1", "2"]}, False, {}, 403),
        ({"patient": ["*"]}, False, {"patient": "9"}, 200),
        ({"patient": ["1"]}, True, {"patient": "1"}, 200),
        ({"patient": ["1"]}, True, {"patient": "1", "ward": "3"}, 403),
        ({}, True, {}, 200),
        ({}, True, {"patient": "1"}, 403),
    ],
)
def test_the_encryption_context_is_bound(
    live: Live, app: App, key: str, bound: dict[str, list[str]], exact: bool, context: dict[str, str], expected: int
) -> None:
    give(live, app, key, context=bound, exact=exact)
    assert app.use(key, context=context).status_code == expected


@pytest.mark.requirement("R29")
def test_the_purpose_of_use_is_bound_and_recorded(live: Live, app: App, key: str) -> None:
    give(live, app, key, purposes=["treatment", "payment"])
    said = {
        purpose: app.use(key, headers={"keyclave-purpose": purpose}).status_code
        for purpose in ("treatment", "payment", "research")
    }
    assert said == {"treatment": 200, "payment": 200, "research": 404}
    assert app.use(key).status_code == 404
    assert app.use(key, headers={"keyclave-purpose": "curiosity"}).status_code == 400
    events = live.get("/v1/audit/events", "auditor", params={"actor": app.name}).json()["events"]
    assert [event.get("purpose", "") for event in events[-5:-2]] == ["treatment", "payment", "research"]


@pytest.mark.requirement("R29")
def test_counted_uses_are_counted_exactly_by_a_crowd(live: Live, app: App, key: str) -> None:
    """The last uses raced by fifty callers: exactly as many succeed as were granted, and as many events say so."""
    grant = give(live, app, key, uses=7)
    with ThreadPoolExecutor(50) as crowd:
        answers = list(crowd.map(lambda _: app.use(key).status_code, range(50)))
    assert answers.count(200) == 7
    assert set(answers) <= {200, 403, 404}
    assert app.use(key).status_code == 404  # used up is as good as never granted
    assert live.get(f"/v1/grants/{grant['id']}", "operator").json()["remaining"] == 0
    events = live.get("/v1/audit/events", "auditor", params={"actor": app.name, "limit": "1000"}).json()["events"]
    assert [event["outcome"] for event in events].count("ok") == 7


@pytest.mark.requirement("R29")
def test_the_last_use_is_given_once(live: Live, app: App, key: str) -> None:
    give(live, app, key, uses=1)
    with ThreadPoolExecutor(50) as crowd:
        answers = list(crowd.map(lambda _: app.use(key).status_code, range(50)))
    assert answers.count(200) == 1


@pytest.mark.requirement("R29")
def test_items_of_a_batch_count_each_and_failed_ones_do_not(live: Live, app: App, key: str) -> None:
    grant = give(live, app, key, uses=5, operations=["encrypt", "decrypt"])
    items = [{"plaintext": PLAIN}] * 3
    batch = live.post(f"/v1/keys/{key}/encrypt/batch", app.token, {"items": items}).json()["results"]
    remaining = lambda: live.get(f"/v1/grants/{grant['id']}", app.token).json()["remaining"]  # noqa: E731
    assert remaining() == 2
    assert live.post(f"/v1/keys/{key}/encrypt/batch", app.token, {"items": items}).status_code == 403
    assert remaining() == 2  # all or nothing
    good, bad = {"ciphertext": batch[0]["ciphertext"]}, {"ciphertext": batch[0]["ciphertext"][:-8] + "AAAAAAAA"}
    mixed = live.post(f"/v1/keys/{key}/decrypt/batch", app.token, {"items": [bad, good, bad]}).json()["results"]
    assert [("error" in item) for item in mixed] == [True, False, True]
    assert remaining() == 1
    assert live.post(f"/v1/keys/{key}/decrypt", app.token, bad).status_code == 400
    assert remaining() == 1


@pytest.mark.requirement("R29")
def test_another_right_serves_when_a_counted_grant_is_used_up(live: Live, app: App, key: str) -> None:
    first, second = give(live, app, key, uses=1), give(live, app, key, uses=2)
    assert [app.use(key).status_code for _ in range(4)] == [200, 200, 200, 404]
    assert [live.get(f"/v1/grants/{g['id']}", "operator").json()["status"] for g in (first, second)] == ["used-up", "used-up"]
    give(live, app, key, uses=5)
    free = give(live, app, key)
    assert app.use(key).status_code == 200
    assert live.get("/v1/audit/events", "auditor", params={"actor": app.name}).json()["events"][-1]["grant"] == free["id"]


@pytest.mark.requirement("R29")
def test_a_grant_is_given_on_narrower_only_and_ends_with_the_one_above(live: Live, app: App, key: str) -> None:
    below, far = App(live), App(live)
    grant = give(live, app, key, delegate=True, uses=4, context={"patient": ["1", "2"]}, purposes=["treatment"])
    on: dict[str, Any] = {"parent": grant["id"], "context": {"patient": ["1"]}, "purposes": ["treatment"], "ttl_seconds": 300}
    treat = {"headers": {"keyclave-purpose": "treatment"}}
    for wider in [
        {"operations": ["encrypt", "decrypt"]}, {"keys": ["*"]}, {"context": {}}, {"context": {"patient": ["*"]}}, {"purposes": []},
        {"ttl_seconds": 3600}, {"uses": 5},
    ]:  # fmt: skip
        body = {"grantee": below.name, "operations": ["encrypt"], "keys": [key], **on, **wider}
        refused = live.post("/v1/grants", app.token, body)
        assert refused.status_code == 403, wider
    child = give(live, below, key, by=app.token, **on, delegate=True)
    grandchild = give(live, far, key, by=below.token, **{**on, "parent": child["id"], "ttl_seconds": 200})
    assert below.use(key, context={"patient": "1"}, **treat).status_code == 200
    assert below.use(key, context={"patient": "2"}, **treat).status_code == 403
    assert far.use(key, context={"patient": "1"}, **treat).status_code == 200
    # a use below spends every counted grant above it
    assert live.get(f"/v1/grants/{grant['id']}", "operator").json()["remaining"] == 2
    assert live.post(f"/v1/grants/{grant['id']}/revoke", "operator").json()["status"] == "revoked"
    for each in (app, below, far):
        assert each.use(key, context={"patient": "1"}, **treat).status_code == 404
    states = [live.get(f"/v1/grants/{g['id']}", "auditor").json()["status"] for g in (grant, child, grandchild)]
    assert states == ["revoked"] * 3


@pytest.mark.requirement("R29")
def test_a_chain_shares_the_count_of_its_first(live: Live, app: App, key: str) -> None:
    below, beside = App(live), App(live)
    grant = give(live, app, key, delegate=True, uses=3)
    for each in (below, beside):
        give(live, each, key, by=app.token, parent=grant["id"], ttl_seconds=300)
    with ThreadPoolExecutor(30) as crowd:
        users = [app, below, beside] * 10
        answers = list(crowd.map(lambda each: each.use(key).status_code, users))
    assert answers.count(200) == 3
    own = give(live, below, key)
    assert below.use(key).status_code == 200  # not held up by the one that is used up above
    assert live.get("/v1/audit/events", "auditor", params={"actor": below.name}).json()["events"][-1]["grant"] == own["id"]


@pytest.mark.requirement("R29")
def test_who_may_not_give_does_not(live: Live, app: App, key: str) -> None:
    other = App(live)
    body: dict[str, Any] = {"grantee": other.name, "operations": ["encrypt"], "keys": [key], "ttl_seconds": 60}
    assert live.post("/v1/grants", app.token, body).status_code == 403  # nothing to give on
    held = give(live, app, key)
    assert live.post("/v1/grants", app.token, {**body, "parent": held["id"]}).status_code == 403  # not to be given on
    assert live.post("/v1/grants", other.token, {**body, "grantee": app.name, "parent": held["id"]}).status_code == 404
    assert live.post("/v1/grants", "auditor", body).status_code == 403
    delegated = give(live, app, key, delegate=True)
    own = {**body, "grantee": app.name, "parent": delegated["id"]}
    assert live.post("/v1/grants", app.token, own).status_code == 409  # to oneself
    for grantee, status in [("first-custodian", 409), ("first-auditor", 409), ("nobody-yet", 404), ("spiffe:hospital/x", 201)]:
        assert live.post("/v1/grants", "operator", {**body, "grantee": grantee}).status_code == status, grantee


@pytest.mark.requirement("R29")
@pytest.mark.parametrize(
    "wrong",
    [
        {"operations": []}, {"operations": ["destroy"]}, {"operations": ["key-create"]}, {"keys": []}, {"keys": ["a*b"]},
        {"ttl_seconds": 0}, {"uses": 0}, {"uses": -1}, {"purposes": ["fun"]}, {"networks": ["nowhere"]}, {"context": {"a": []}},
        {"ttl_seconds": 10**9}, {"unheard": 1}, {"grantee": ""},
    ],
    ids=str,
)  # fmt: skip
def test_a_grant_that_says_nothing_sensible_is_refused(live: Live, app: App, key: str, wrong: dict[str, Any]) -> None:
    body = {"grantee": app.name, "operations": ["encrypt"], "keys": [key], "ttl_seconds": 60, **wrong}
    assert live.post("/v1/grants", "operator", body).status_code == 400


@pytest.mark.requirement("R29")
def test_retiring_is_the_grantees_and_revoking_the_givers(live: Live, app: App, key: str) -> None:
    below = App(live)
    grant = give(live, app, key, delegate=True)
    child = give(live, below, key, by=app.token, parent=grant["id"], ttl_seconds=60)
    assert live.post(f"/v1/grants/{child['id']}/revoke", below.token).status_code == 403
    assert live.post(f"/v1/grants/{grant['id']}/retire", below.token).status_code == 404  # not theirs to know of
    assert live.post(f"/v1/grants/{child['id']}/retire", app.token).status_code == 403
    assert live.post(f"/v1/grants/{grant['id']}/retire", "operator").status_code == 403
    assert live.post(f"/v1/grants/{child['id']}/revoke", app.token).json()["status"] == "revoked"
    assert below.use(key).status_code == 404
    again = give(live, below, key, by=app.token, parent=grant["id"], ttl_seconds=60)
    assert live.post(f"/v1/grants/{grant['id']}/retire", app.token).json()["status"] == "retired"
    assert [each.use(key).status_code for each in (app, below)] == [404, 404]
    assert live.get(f"/v1/grants/{again['id']}", "operator").json()["status"] == "retired"


@pytest.mark.requirement("R29")
def test_an_application_sees_its_own_grants_only(live: Live, app: App, key: str) -> None:
    other = App(live)
    mine, theirs = give(live, app, key), give(live, other, key)
    assert [g["id"] for g in live.get("/v1/grants", app.token).json()["grants"]] == [mine["id"]]
    unknown, forbidden = (live.get(f"/v1/grants/{g}", app.token) for g in ("gnt_" + "a" * 26, theirs["id"]))
    assert (unknown.status_code, unknown.json()["detail"]) == (forbidden.status_code, forbidden.json()["detail"])
    everything = live.get("/v1/grants", "operator", params={"grantee": other.name, "live": "true"}).json()["grants"]
    assert [g["id"] for g in everything] == [theirs["id"]]


@pytest.mark.requirement("R29", "R13")
def test_grants_of_another_tenant_are_unknown(live: Live, app: App, key: str) -> None:
    grant = give(live, app, key)
    made = live.post("/v1/tenants", "custodian", {"name": f"clearinghouse-{next(_number)}"})
    if made.status_code == 403:
        pytest.skip("tenants need approval here")
    theirs = {c["role"]: c["token"] for c in made.json()["credentials"]}
    assert live.get(f"/v1/grants/{grant['id']}", theirs["operator"]).status_code == 404
    assert live.post(f"/v1/grants/{grant['id']}/revoke", theirs["operator"]).status_code == 404
    assert live.get("/v1/grants", theirs["auditor"]).json()["grants"] == []
    assert app.use(key).status_code == 200
