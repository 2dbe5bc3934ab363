"""Bundles and exports that were made to crash the verifier, or to have it say more than it looked at."""

from __future__ import annotations

import base64
import copy
import json
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from keyclave_verify.approvals import verify_approval
from keyclave_verify.directory import LogDirectory
from keyclave_verify.report import Report, Unusable
from tests.approvals.made_log import ORIGIN, Approved, MadeLog, canonical

pytestmark = pytest.mark.requirement("R31", "P2")

MADE = Approved(MadeLog())
BUNDLE: dict[str, Any] = json.loads(MADE.bundle())
REQUEST: dict[str, Any] = json.loads(BUNDLE["request"])
ODD: list[Any] = [None, True, 0, -1, 1.5, "", "x", [], ["x"], [1], [[]], {}, {"a": 1}, 10**15]


def check(bundle: Any, folder: Path | None = None) -> Report:
    raw = bundle if isinstance(bundle, bytes) else json.dumps(bundle).encode()
    log = None if folder is None else LogDirectory(folder)
    return verify_approval(raw, "bundle", MADE.log.trust(), log=log)


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    made = copy.deepcopy(value)
    at(made, path[:-1])[path[-1]] = new
    return made


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def changes(value: Any) -> Iterator[tuple[Any, ...]]:
    """Yield ways to something in a JSON value, each with a value of another kind for it."""
    yield from ((way, odd) for way in ways(value) for odd in ODD if at(value, way) != odd)


def ways(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to everything in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([path] if path else []), *(way for step, found in inner for way in ways(found, (*path, step)))]


def shown(report: Report) -> str:
    """Return a report of a fault, after writing it in both forms."""
    assert not report.good
    json.loads(report.to_json())
    return report.to_text(color=False)


# ---- values of another kind -----------------------------------------------------------------------------------------------
def test_a_value_of_another_kind_anywhere_in_a_bundle_is_a_fault_and_no_crash() -> None:
    for way, odd in changes(BUNDLE):
        if way[0] != "relying" and way != ("format",):
            assert shown(check(put(BUNDLE, way, odd))), (way, odd)


def test_a_value_of_another_kind_anywhere_in_a_request_is_a_fault_and_no_crash() -> None:
    for way, odd in changes(REQUEST):
        assert shown(check(BUNDLE | {"request": canonical(put(REQUEST, way, odd))})), (way, odd)


def forged(event: Any) -> dict[str, Any]:
    """Return a receipt for any event, under a checkpoint that nobody signed."""
    entry = canonical(event).encode()
    root = base64.b64encode(sha256(b"\x00" + entry).digest()).decode()
    note = f"{ORIGIN}\n1\n{root}\n\n\u2014 x {base64.b64encode(bytes(70)).decode()}\n"
    leaf = base64.b64encode(entry).decode()
    return {"event": event["id"], "index": 0, "leaf": leaf, "proof": f"c2sp.org/tlog-proof@v1\nindex 0\n\n{note}"}


@pytest.mark.parametrize("place", [("requested",), ("ended",), ("signatures", 0, "receipt"), ("signatures", 0, "enrolment")])
def test_a_value_of_another_kind_anywhere_in_an_event_is_a_fault_and_no_crash(place: tuple[Any, ...]) -> None:
    event = json.loads(base64.b64decode(at(BUNDLE, place)["leaf"]))
    for way, odd in changes(event):
        if way != ("id",):
            assert shown(check(put(BUNDLE, place, forged(put(event, way, odd))))), (way, odd)


@pytest.mark.parametrize(
    "parts",
    [
        {"signatures": [1]},
        {"signatures": [{}]},
        {"signatures": [{name: value for name, value in BUNDLE["signatures"][0].items() if name != "kind"}]},
        {"status": []},
        {"request": "[" * 5000},
        {"request": BUNDLE["request"].replace('"over"', '"\\ud800"')},
        {"request": BUNDLE["request"].replace('"hours":24', '"hours":' + "9" * 5000)},
    ],
)
def test_a_form_that_is_none_is_named(parts: dict[str, Any]) -> None:
    text = shown(check(BUNDLE | parts))
    assert "✓" not in text  # no signature was looked at
    assert "- signatures  not checked" in text


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"format":' + b"[" * 9000, "nested deeper"),
        (json.dumps(BUNDLE | {"request": "\ud800"}).encode(), "half of a surrogate pair"),
        (b"\xef\xbb\xbf" + json.dumps(BUNDLE).encode(), "byte order mark"),
        (b'{"status":"open",' + json.dumps(BUNDLE).encode()[1:], "a name is there twice"),
    ],
)
def test_what_cannot_be_read_at_all_is_no_verdict(raw: bytes, words: str) -> None:
    with pytest.raises(Unusable, match=words):
        check(raw)


def test_a_bundle_of_another_log_is_not_taken() -> None:
    assert "bundle is of the log 'example.org/other', not of 'example.org/log'" in shown(
        check(BUNDLE | {"origin": "example.org/other"})
    )


# ---- signatures -----------------------------------------------------------------------------------------------------------
def signed(**changes: Any) -> dict[str, Any]:
    return BUNDLE | {"signatures": [BUNDLE["signatures"][0] | changes, BUNDLE["signatures"][1]]}


def passkey(client: object) -> dict[str, Any]:
    response = {"clientDataJSON": client, "authenticatorData": "", "signature": ""}
    return signed(kind="passkey", proof={"type": "public-key", "response": response})


@pytest.mark.parametrize("inside", [b"[" * 5000, b'{"type":' + b"[" * 5000, b'{"type":"webauthn.get","type":1}', b"\xff", b"[]"])
def test_client_data_made_to_be_unreadable(inside: bytes) -> None:
    assert "signature 1: " in shown(check(passkey(base64.urlsafe_b64encode(inside).decode().rstrip("="))))


@pytest.mark.parametrize("statement", ["[" * 5000, "[]", '{"at":' + "9" * 5000 + "}", '"\\ud800"', ""])
def test_a_statement_made_to_be_unreadable(statement: str) -> None:
    assert "signature 1: " in shown(check(signed(statement=statement)))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda der: der.replace(
            bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030155")
        ),  # a curve that nobody knows
        lambda der: der.replace(bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d0255")),  # another kind of key
        lambda der: der[:-1] + bytes([der[-1] ^ 1]),  # no point of the curve
        lambda der: der[:30],
        lambda der: b"",
    ],
)
def test_a_public_key_that_is_none(spoil: Any) -> None:
    der = base64.b64decode(BUNDLE["signatures"][0]["public"])
    text = shown(check(signed(public=base64.b64encode(spoil(der)).decode())))
    assert "signature 1: the public key cannot be read" in text
    assert "✗ approvers   2 signatures over this request" in text


# ---- the export beside it -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("what", "becomes"),
    [
        (b'"op":"approval-sign"', b'"op":"approval-sign\''),
        (b'"op":"approval-request"', b'"op" "approval-request"'),
        (b'"detail":{"authenticator":"aut_ann"', b'"detail":["authenticator","aut_ann"'),
        (b'"principal":"ann"', b'"principal":"an\xff"'),
    ],
)
def test_an_export_with_changed_bytes_is_reported(what: bytes, becomes: bytes, tmp_path: Path) -> None:
    folder = MADE.log.export(tmp_path)
    path = next(folder.glob("tile/entries/000.p/*"))
    assert what in path.read_bytes() and len(what) == len(becomes)
    path.write_bytes(path.read_bytes().replace(what, becomes))
    report = check(BUNDLE, folder)
    text = shown(report)
    assert "does not match its hash in tile/0/000.p/6" in text
    assert "- revocation  not checked" in text  # what somebody changed tells nothing of what happened
    assert "no approver was disabled" in report.unproved[0]


def test_a_signed_event_that_is_none_is_named(tmp_path: Path) -> None:
    made = Approved(MadeLog(), lambda log, moment: log.add("login", "ann", detail="ann") if moment == "end" else None)
    log = LogDirectory(made.log.export(tmp_path))
    report = verify_approval(made.bundle(), "bundle", made.log.trust(), log=log)
    assert "event 5 of the export names who signed, and cannot be read: its detail is not what the field holds" in shown(report)


@pytest.mark.parametrize("parts", [{}, {"status": "open", "ended": None}])
def test_a_forged_size_of_the_export_costs_no_time(parts: dict[str, Any], tmp_path: Path) -> None:
    folder = MADE.log.export(tmp_path)
    note = (folder / "checkpoint").read_text()
    (folder / "checkpoint").write_text(note.replace("\n6\n", "\n9000000000000000000\n"))
    began = time.monotonic()
    assert "does not verify" in shown(check(BUNDLE | parts, folder))
    assert time.monotonic() - began < 5
