"""A sealed server: what it does not do, and how shares bring it back. Wrong shares are named, slowed down and harm no right ones."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from keyclave.crypto.shares import Share
from keyclave.operations.table import OPERATIONS
from tests.live import Live, free_port, init, launch

pytestmark = pytest.mark.requirement("R16")
WAIT = 20  # seconds for a waiting time to be over


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    live = launch(tmp_path_factory.mktemp("sealed"))
    yield live
    live.stop()


@pytest.fixture
def sealed(server: Live) -> Live:
    """The server, sealed, as if nobody had ever given a wrong share."""
    for share in server.shares * 2:
        if server.get("/v1/health").json() == {"status": "ok"}:
            break
        offer_when_allowed(server, share)
    assert server.post("/v1/seal", "operator").status_code == 200
    return server


def offer(live: Live, share: str) -> httpx.Response:
    return live.post("/v1/unseal", body={"share": share})


def offer_when_allowed(live: Live, share: str) -> httpx.Response:
    """Offer a share again and again until the waiting time is over."""
    deadline = time.monotonic() + WAIT
    while (answer := offer(live, share)).status_code == 429 and time.monotonic() < deadline:
        time.sleep(0.05)  # between two looks at a condition
    return answer


def altered(text: str) -> str:
    """Return the share with other secret bytes and a right checksum: what a forger, not a typist, makes."""
    share = Share.from_text(text)
    share.view()[0] ^= 1
    return share.to_text()


def waiting(answer: httpx.Response) -> int:
    assert (answer.status_code, answer.json()["code"]) == (429, "limit_reached"), answer.text
    match = re.search(r"in (\d+) s", answer.json()["hint"])
    assert match
    return int(match[1])


@pytest.mark.parametrize("op", [op for op in OPERATIONS if op.needs_root], ids=lambda op: f"{op.method} {op.path}")
def test_no_operation_that_needs_the_root_is_done_while_sealed(sealed_before: Live, op: Any) -> None:
    path = op.path.replace("{key}", "any").replace("{credential}", "crd_" + "a" * 26)
    roles = [sealed_before.request(op.method, path, role, content=b"{}") for role in ("custodian", "operator", "auditor")]
    assert {answer.json()["code"] for answer in roles} <= {"sealed", "refused", "malformed"}
    assert all(answer.status_code in (503, 403, 400) for answer in roles)


@pytest.fixture(scope="module")
def sealed_before(server: Live) -> Live:
    """The server, sealed once for tests that leave it so."""
    server.post("/v1/seal", "operator")
    return server


def test_people_are_known_and_the_state_is_told_while_sealed(sealed_before: Live) -> None:
    assert (sealed_before.get("/v1/health").status_code, sealed_before.get("/v1/health").json()) == (503, {"status": "sealed"})
    assert sealed_before.get("/v1/status").json()["sealed"] is True
    assert sealed_before.get("/v1/whoami", "auditor").status_code == 200
    assert sealed_before.get("/v1/whoami", "kct_nobody").status_code == 401
    refused = sealed_before.post("/v1/keys", "custodian", {"name": "k", "owner": "o"})
    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, "sealed", "1")
    assert "keyclave unseal" in refused.json()["hint"]


def test_any_two_shares_in_any_order_open_it_and_each_is_on_record(sealed: Live) -> None:
    start = sealed.get("/v1/status").json()["log"]["size"]
    answers = [offer(sealed, sealed.shares[2]).json(), offer(sealed, sealed.shares[0]).json()]
    assert [(a["sealed"], a["received"], a["threshold"]) for a in answers] == [(True, 1, 2), (False, 0, 2)]
    events = sealed.get(f"/v1/audit/events?operation=unseal&from={start}", "auditor").json()["events"]
    assert [e["id"] for e in events] == [a["event"] for a in answers]
    assert [(e["outcome"], e["detail"]["sealed"]) for e in events] == [("ok", 1), ("ok", 0)]
    assert sealed.shares[0][5:] not in sealed.get("/v1/audit/events", "auditor").text


def test_a_typing_error_is_named_slowed_down_and_harms_nothing(sealed: Live) -> None:
    assert offer(sealed, sealed.shares[0]).json()["received"] == 1
    wrong = sealed.shares[1][:-1] + ("0" if sealed.shares[1][-1] != "0" else "1")
    refused = offer(sealed, wrong)
    assert (refused.status_code, refused.json()["code"]) == (400, "malformed")
    assert "typing error" in refused.json()["detail"]
    assert wrong not in refused.text
    assert waiting(offer(sealed, sealed.shares[1])) == 1
    opened = offer_when_allowed(sealed, sealed.shares[1])
    assert opened.json()["sealed"] is False


def test_each_further_wrong_share_makes_the_wait_longer(sealed: Live) -> None:
    waits = []
    for _ in range(3):
        assert offer_when_allowed(sealed, "kcs1-WRONG").status_code == 400
        waits.append(waiting(offer(sealed, "kcs1-WRONG")))
    assert waits == [1, 2, 4]


def test_a_share_of_another_server_is_named_and_does_not_stand_in_the_way(sealed: Live, tmp_path: Path) -> None:
    foreign = init(tmp_path / "other", free_port())["shares"]
    refused = offer(sealed, foreign[0])
    assert (refused.status_code, refused.json()["code"]) == (400, "malformed")
    assert "another set" in refused.json()["detail"]
    assert offer_when_allowed(sealed, sealed.shares[0]).json()["received"] == 1
    assert offer(sealed, foreign[1]).status_code == 400
    assert offer_when_allowed(sealed, sealed.shares[1]).json()["sealed"] is False


def test_a_forged_share_opens_nothing_and_the_right_ones_still_do(sealed: Live) -> None:
    assert offer(sealed, altered(sealed.shares[0])).json()["received"] == 1
    refused = offer(sealed, sealed.shares[1])
    assert refused.status_code == 400, refused.text
    assert sealed.get("/v1/status").json()["unseal"]["received"] == 0
    assert sealed.get("/v1/health").json() == {"status": "sealed"}
    assert offer_when_allowed(sealed, sealed.shares[0]).json()["received"] == 1
    assert offer(sealed, sealed.shares[1]).json()["sealed"] is False


def test_the_same_share_twice_is_one_share(sealed: Live) -> None:
    assert offer(sealed, sealed.shares[0]).json()["received"] == 1
    again = offer(sealed, sealed.shares[0].lower().replace("-", " "))
    assert again.status_code == 400
    assert sealed.get("/v1/status").json()["unseal"] == {"threshold": 2, "received": 1}


def test_shares_that_were_given_do_not_outlive_the_process(sealed: Live) -> None:
    offer(sealed, sealed.shares[0])
    sealed.kill()
    sealed.restart(unseal=False)
    assert sealed.get("/v1/status").json()["unseal"]["received"] == 0
    assert offer(sealed, sealed.shares[1]).json()["sealed"] is True


def test_a_key_made_before_the_sealing_opens_its_ciphertext_after_it(sealed: Live) -> None:
    sealed.unseal()
    sealed.create_key("kept")
    token = sealed.token(["encrypt", "decrypt"], ["kept"])
    made = sealed.post("/v1/keys/kept/encrypt", token, {"plaintext": "cmVjb3Jk"}).json()["ciphertext"]
    for _ in range(3):
        assert sealed.post("/v1/seal", "operator").json()["sealed"] is True
        assert sealed.post("/v1/keys/kept/decrypt", token, {"ciphertext": made}).json()["code"] == "sealed"
        sealed.unseal()
        assert sealed.post("/v1/keys/kept/decrypt", token, {"ciphertext": made}).json()["plaintext"] == "cmVjb3Jk"


@pytest.mark.parametrize("unsealed", [False, True], ids=["sealed", "unsealed"])
@pytest.mark.parametrize("share", ["kcs1-WRONG", "x" * 600], ids=["wrong", "too long"])
def test_nobody_writes_the_log_full_with_shares(sealed: Live, share: str, unsealed: bool) -> None:
    """Anybody on the network may offer shares: what they try is counted, not written down one by one."""
    if unsealed:
        sealed.unseal()
    before = sealed.get("/v1/status").json()["log"]["size"]
    began = time.monotonic()
    for _ in range(200):
        assert offer(sealed, share).status_code in (400, 409, 413, 429)
    seconds = time.monotonic() - began
    assert sealed.get("/v1/status").json()["log"]["size"] - before <= 5 + 3 * seconds
