"""Tokens that open nothing without their certificate (RFC 8705), and credentials that are carried on."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.protocols.inside import inside
from tests.workloads.certificates import Identity
from tests.workloads.conftest import House, identity_of

RECORD = {"plaintext": base64.b64encode(b"record").decode()}
ENCRYPT = "/v1/keys/ward-records/encrypt"


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def bound_token(house: House, identity: Identity, **body: Any) -> dict[str, Any]:
    with house.client(identity) as client:
        answer = client.post("/v1/tokens", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def use(house: House, token: str, identity: Identity | None) -> httpx.Response:
    with house.client(identity) as client:
        return client.post(ENCRYPT, json=RECORD, headers=bearer(token))


@pytest.mark.requirement("R33")
def test_a_stolen_token_opens_nothing_without_its_certificate(house: House) -> None:
    identity, thief = house.workload("bound/mine"), house.workload("bound/thief")
    token = bound_token(house, identity)["token"]
    assert use(house, token, identity).status_code == 200
    refused = [use(house, token, None), use(house, token, thief), use(house, "kct_" + "A" * 43, None)]
    assert {answer.status_code for answer in refused} == {401}
    assert len({(a.json()["code"], a.json()["detail"], a.json().get("hint")) for a in refused}) == 1  # nobody learns which it was
    same_name = house.issue(None, house.client(identity))  # the same workload, another certificate: bound is bound
    assert use(house, token, same_name).status_code == 401
    with house.client(identity) as client:
        assert client.get("/v1/whoami", headers=bearer(token)).json()["credential"].startswith("crd_")


@pytest.mark.requirement("R33")
def test_it_ends_with_its_certificate(house: House) -> None:
    identity = house.workload("bound/ends")
    token = bound_token(house, identity)["token"]
    with house.client(identity) as client:
        assert client.post(ENCRYPT, json=RECORD, headers=bearer(token)).status_code == 200
        revoked = house.live.post(f"/v1/certificates/{identity_of(identity)}/revoke", "operator", {})
        assert revoked.status_code == 200
        assert client.post(ENCRYPT, json=RECORD, headers=bearer(token)).status_code == 401
    listed = house.live.get("/v1/credentials", "operator", params={"limit": "1000"}).json()["credentials"]
    assert all(one["revoked_at"] for one in listed if one["principal"].endswith("/bound/ends"))


@pytest.mark.requirement("R33")
def test_it_ends_with_its_workload(house: House) -> None:
    identity = house.workload("bound/paused")
    token = bound_token(house, identity)["token"]
    listed = house.live.get("/v1/workloads", "operator", params={"limit": "1000"}).json()["workloads"]
    workload = next(one["id"] for one in listed if one["name"].endswith("/bound/paused"))
    with house.client(identity) as client:
        assert client.post(ENCRYPT, json=RECORD, headers=bearer(token)).status_code == 200
        assert house.live.request("PATCH", f"/v1/workloads/{workload}", "operator", json={"enabled": False}).status_code == 200
        assert client.post(ENCRYPT, json=RECORD, headers=bearer(token)).status_code == 401
        assert house.live.request("PATCH", f"/v1/workloads/{workload}", "operator", json={"enabled": True}).status_code == 200
        assert client.post(ENCRYPT, json=RECORD, headers=bearer(token)).status_code == 401  # revoked, not paused
        assert client.post(ENCRYPT, json=RECORD).status_code == 200


@pytest.mark.requirement("R33")
def test_it_lives_for_minutes_and_never_beyond_the_hour(house: House) -> None:
    identity = house.workload("bound/short")
    made = bound_token(house, identity, ttl_seconds=60)
    assert _seconds(made) == 60
    with house.client(identity) as client:
        assert client.post("/v1/tokens", json={"ttl_seconds": 3601}).status_code == 400
        assert client.post("/v1/tokens", json={}, headers=bearer(made["token"])).status_code == 403  # a token makes no tokens
    assert house.live.post("/v1/tokens", house.live.token(["encrypt"], ["ward-*"]), {}).status_code in (401, 403)


def _seconds(made: dict[str, Any]) -> int:
    from datetime import datetime

    ends, begins = (datetime.fromisoformat(made[name].replace("Z", "+00:00")) for name in ("expires_at", "created_at"))
    return round((ends - begins).total_seconds())


@pytest.mark.requirement("R33")
def test_a_renewed_token_stays_bound(house: House) -> None:
    identity = house.workload("bound/renewed")
    token = bound_token(house, identity, ttl_seconds=60)["token"]
    with house.client(identity) as client:
        answer = client.post("/v1/credentials/renew", json={}, headers=bearer(token))
    assert answer.status_code == 201, answer.text
    assert use(house, answer.json()["token"], identity).status_code == 200
    assert use(house, answer.json()["token"], None).status_code == 401


@pytest.mark.requirement("R33")
def test_a_credential_is_carried_on_once_and_the_one_before_ends_within_a_minute(house: House) -> None:
    token = house.live.token(["encrypt"], ["ward-*"], ttl=600)
    with house.client(None) as client, ThreadPoolExecutor(4) as racers:
        answers = list(racers.map(lambda _: client.post("/v1/credentials/renew", json={}, headers=bearer(token)), range(4)))
        made = [answer.json() for answer in answers if answer.status_code == 201]
        assert sorted(answer.status_code for answer in answers)[0] == 201
        assert len(made) == 1
        assert {answer.json()["code"] for answer in answers if answer.status_code != 201} <= {"conflict", "refused"}
        old = client.get("/v1/whoami", headers=bearer(token)).json()
        assert old["expires_at"] < made[0]["expires_at"]
        assert client.post(ENCRYPT, json=RECORD, headers=bearer(made[0]["token"])).status_code == 200
        other = client.post("/v1/keys/elsewhere/encrypt", json=RECORD, headers=bearer(made[0]["token"]))
        assert other.status_code == 404  # the scope is the same


@pytest.mark.requirement("R33")
def test_people_and_revoked_credentials_are_not_carried_on(house: House) -> None:
    assert house.live.post("/v1/credentials/renew", "operator").status_code == 403
    token = house.live.token(["encrypt"], ["ward-*"])
    me = house.live.get("/v1/whoami", token).json()["credential"]
    assert house.live.post(f"/v1/credentials/{me}/revoke", "operator", {"reason": "over"}).status_code == 200
    assert house.live.post("/v1/credentials/renew", token).status_code == 401


@pytest.mark.requirement("R33")
def test_a_life_is_counted_from_the_first_of_its_row(tmp_path: Any) -> None:
    """With a clock that jumps: however often it is carried on, it ends 30 days after it was first issued."""
    day = 86_400 * 1_000_000
    with inside(tmp_path) as server:
        scope = '{"operations":["encrypt"],"keys":["x"]}'
        _, token = server.issue("app", "application", scope, ttl=20 * 86_400)
        clock = server.desk.clock
        shown, ahead = clock.now, [0]
        clock.now = lambda: shown() + ahead[0]  # type: ignore[method-assign]
        ahead[0] = 15 * day
        status, answer = server.ask("POST", "/v1/credentials/renew", token)
        assert status == 201, answer
        token = answer.split(b'"token":"')[1].split(b'"')[0].decode()
        ahead[0] = 29 * day  # the second lives to the 30th day, not to the 35th: a day is left, and no more is given
        status, answer = server.ask("POST", "/v1/credentials/renew", token)
        assert status == 403, answer
        ahead[0] = 30 * day + 1_000_000
        status, _ = server.ask("GET", "/v1/whoami", token)
        assert status == 401
