"""The ceremony names who holds which share, and the record of an unsealing says whose share it was and who brought it."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from keyclave.app.ceremony import Made, Wishes, hold
from keyclave.app.hand_over import init
from keyclave.core.errors import Malformed
from keyclave.identity.peer import Peer
from keyclave.operations.table import OPERATIONS
from keyclave.operations.unseal import UnsealRequest, offer_share
from keyclave.protocols.rest.asgi import application
from keyclave.protocols.rest.gateway import Gateway
from tests import postgres
from tests.store.inside import WISHES, Inside, open_inside

NAMES = ("ann", "bea", "cem")
pytestmark = pytest.mark.requirement("R16", "R34")


def made_home(folder: Path, url: str = "") -> tuple[Path, Made]:
    from keyclave.app.config import StoreSection

    home, out = folder / "home", folder / "made.json"
    values = {name: getattr(WISHES, name) for name in WISHES.__dataclass_fields__}
    init(home, Wishes(**{**values, "holders": NAMES, "store": StoreSection(url=url)}), [], out, passphrases=False)
    return home, msgspec.json.decode(out.read_bytes(), type=Made)


def events(inside: Inside) -> list[dict[str, Any]]:
    return [msgspec.json.decode(bytes(entry)) for entry in inside.store.read_entries(0, 1000)]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_the_ceremony_names_a_holder_for_each_share_and_the_record_begins_with_it(tmp_path: Path, engine: str) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(postgres.new_database()).url() if engine == "postgresql" else ""
        home, made = made_home(tmp_path, url)
        assert made.holders == list(NAMES)
        inside = stack.enter_context(open_inside(home, made.shares, dict(made.credentials)))
        listed = inside.get("share-holder-list", "auditor")
        assert [(one["share"], one["principal"], one["named_by"]) for one in listed["holders"]] == [
            (1, "ann", "ceremony"), (2, "bea", "ceremony"), (3, "cem", "ceremony"),
        ]  # fmt: skip
        assert (listed["shares"], listed["threshold"], listed["unnamed"]) == (3, 2, [])
        if engine == "sqlite":  # there an event has its place at once
            first = events(inside)[:3]
            assert [(e["op"], e["actor"], e["detail"]["share"], e["detail"]["principal"]) for e in first] == [
                ("share-holder-name", "ceremony", number, name) for number, name in enumerate(NAMES, 1)
            ]
            assert [one["record"] for one in listed["holders"]] == [event["id"] for event in first]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("ann", "bea"), "2 holders are named for 3 shares"),
        (("ann", "bea", "ann"), "one person would hold two"),
        (("ann", "bea", ""), "no name of a person"),
        (("ann", "bea", "two words"), "no name of a person"),
        (("ann", "bea", "share-holder"), "kept for the server's own"),
        (("ann", "bea", "spiffe:x"), "given by that source"),
    ],
)
def test_a_ceremony_with_names_that_cannot_be_makes_nothing(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    home = tmp_path / "home"
    with pytest.raises(Malformed, match=said):
        hold(home, Wishes(2, 3, False, "127.0.0.1", 8443, "example.org/log", (), holders=names))
    assert not home.exists() or list(home.iterdir()) == []


def test_an_unsealing_says_whose_share_it_was_and_whether_they_brought_it(tmp_path: Path) -> None:
    home, made = made_home(tmp_path)
    with open_inside(home, made.shares, dict(made.credentials)) as inside:
        first = [event["detail"] for event in events(inside) if event["op"] == "unseal"]
        assert first == [
            {"holder": "ann", "received": 1, "sealed": 1, "share": 1, "threshold": 2},
            {"holder": "bea", "received": 0, "sealed": 0, "share": 2, "threshold": 2},
        ]
        body = {"share": 2, "principal": "first-operator"}
        approval = inside.approved("share-holder-name", "custodian", "", body)
        inside.get("share-holder-name", "custodian", "", body, approval=approval)
        inside.get("seal", "operator")
        operator = inside.desk.callers.authenticate(inside.tokens["operator"].encode())
        for share in (made.shares[2], made.shares[1]):  # another's share, then one's own
            request = UnsealRequest(share=share)
            offer_share(inside.desk, Peer("127.0.0.1"), request, inside.answered.append, operator)
            inside.store.flush()
        assert not inside.desk.vault.sealed
        said = [event for event in events(inside) if event["op"] == "unseal"][2:]
        assert [(e["actor"], e["detail"]["share"], e["detail"]["holder"], e["detail"]["by_holder"]) for e in said] == [
            ("first-operator", 3, "cem", 0), ("first-operator", 2, "first-operator", 1),
        ]  # fmt: skip


def test_what_is_no_share_of_this_server_has_no_holder(tmp_path: Path) -> None:
    home, made = made_home(tmp_path)
    other = hold(tmp_path / "other", Wishes(2, 3, False, "127.0.0.1", 8443, "example.org/log", ()))[0]
    with open_inside(home, made.shares, dict(made.credentials), unseal=False) as inside:
        offer_share(inside.desk, Peer("127.0.0.1"), UnsealRequest(share=other.shares[0]), inside.answered.append)
        inside.store.flush()
        (event,) = [event for event in events(inside) if event["op"] == "unseal"]
        assert event["outcome"] == "malformed"
        assert event["detail"] == {"received": 0, "sealed": 1, "threshold": 2}


def test_a_dead_or_forged_credential_keeps_nobody_from_unsealing(tmp_path: Path) -> None:
    home, made = made_home(tmp_path)
    with open_inside(home, made.shares, dict(made.credentials), unseal=False) as inside:
        served = application(Gateway(inside.desk, OPERATIONS, lambda *_: None), OPERATIONS)

        async def wrapped(scope: Any, receive: Any, send: Any) -> None:
            scope.setdefault("extensions", {})["keyclave.peer"] = Peer("127.0.0.1")
            asyncio.get_running_loop().call_later(0.05, inside.store.flush)
            await served(scope, receive, send)

        async def offer(share: str, token: str) -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(wrapped), base_url="https://test") as http:
                headers = {"authorization": f"Bearer {token}"}
                return await http.post("/v1/unseal", json={"share": share}, headers=headers)

        first = asyncio.run(offer(made.shares[0], "kc_forged"))
        second = asyncio.run(offer(made.shares[1], made.credentials["auditor"]))
        assert (first.status_code, second.status_code) == (200, 200)
        assert second.json()["sealed"] is False
        said = [event for event in events(inside) if event["op"] == "unseal"]
        assert [event["actor"] for event in said] == ["share-holder", "first-auditor"]
        assert [event["detail"].get("by_holder") for event in said] == [None, 0]
