"""The bundle, offline: whatever is changed in it is found, field by field, and each rule is looked at by itself."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyclave_verify.approval_proofs import base64url, read_cose
from keyclave_verify.approvals import verify_approval
from keyclave_verify.checkpoints import Trust, load_trust
from tests.approvals.ward import Ward


@pytest.fixture(scope="module")
def executed(ward: Ward) -> dict[str, Any]:
    """The bundle of an executed list of two, one of which failed."""
    keys = [ward.doomed("proof-a"), ward.doomed("proof-b")]
    items = [{"ref": key, "request": {"version": 1, "reason": "over"}} for key in keys]
    made = ward.post("/v1/approvals", "second", {"operation": "destroy", "reason": "end of retention", "items": items}).json()
    ward.sign(made["id"], "custodian", "operator")
    assert ward.post(f"/v1/keys/{keys[1]}/cancel-destruction", "operator", {"version": 1}).status_code == 200
    assert ward.execute(made["id"]).status_code == 200
    bundle = ward.bundle(made["id"])
    del bundle["event"]
    return bundle


@pytest.fixture(scope="module")
def trust(ward: Ward, tmp_path_factory: pytest.TempPathFactory) -> Trust:
    path = ward.vkeys(tmp_path_factory.mktemp("vkeys"))
    return load_trust(path.read_text(), str(path))


def check(bundle: dict[str, Any], trust: Trust) -> list[str]:
    return [fault.code for fault in verify_approval(json.dumps(bundle).encode(), "bundle", trust).faults]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield every text and number in the bundle, with the way to it."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from leaves(inner, (*path, place))
    elif value is not None:
        yield path, value


def put(bundle: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    made = copy.deepcopy(bundle)
    inner: Any = made
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return made


def changed(value: Any) -> Any:
    if isinstance(value, int):
        return value + 1
    if not value:
        return "x"
    middle = len(value) // 2
    return value[:middle] + ("A" if value[middle] != "A" else "B") + value[middle + 1 :]


@pytest.mark.requirement("R31", "P2")
def test_the_whole_bundle_holds(executed: dict[str, Any], trust: Trust) -> None:
    report = verify_approval(json.dumps(executed).encode(), "bundle", trust)
    assert report.faults == []
    assert report.facts["outcomes"] == ["proof-a: ok", "proof-b: wrong_state"]
    assert (report.facts["approvers"], report.facts["needed"]) == (["first-custodian", "first-operator"], 2)


@pytest.mark.requirement("R31", "P2")
def test_every_text_and_number_that_is_changed_is_found(executed: dict[str, Any], trust: Trust) -> None:
    """But what nothing hangs on: for whom passkeys would sign where none did."""
    looked_at = 0
    for path, value in leaves(executed):
        if path[0] == "relying":
            continue
        looked_at += 1
        try:
            assert check(put(executed, path, changed(value)), trust), path
        except Exception as unusable:
            assert path == ("format",), (path, unusable)
    assert looked_at > 40


@pytest.mark.requirement("R31", "P2")
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda b: b["signatures"].pop(), "not_enough"),
        (lambda b: b["signatures"].append(b["signatures"][0]), "signed_twice"),
        (lambda b: b["signatures"][0].update(enrolment=b["signatures"][1]["enrolment"]), "detail_principal_differs"),
        (lambda b: b["signatures"][0].update(receipt=b["signatures"][1]["receipt"]), "actor_differs"),
        (lambda b: b["signatures"][0].update(receipt=b["requested"]), "op_differs"),
        (lambda b: b["signatures"][0].update(public=b["signatures"][1]["public"]), "signature_wrong"),
        (lambda b: b["signatures"][0].update(proof=b["signatures"][1]["proof"]), "signature_wrong"),
        (lambda b: b["signatures"][0].update(kind="passkey"), "signature_wrong"),
        (lambda b: b["signatures"][0].update(enrolment=None), "receipt_malformed"),
        (lambda b: b.update(ended=None), "receipt_malformed"),
        (lambda b: b.update(ended=b["items"][0]), "items_differ"),
        (lambda b: b.update(items=b["items"][:1]), "items_differ"),
        (lambda b: b.update(items=b["items"][::-1]), "key_differs"),
        (lambda b: b.update(status="denied"), "actor_differs"),
        (lambda b: b.update(status="open"), "end_differs"),
        (lambda b: b.update(status="approved"), "bundle_malformed"),
        (lambda b: b.update(extra=1), "bundle_malformed"),
        (lambda b: b.update(origin="example.org/log"), "wrong_log"),
        (lambda b: b.update(items=[b["items"][0]] * 2), "items_apart"),
        (lambda b: b.update(request=b["request"].replace('"count":2', '"count":1')), "detail_request_differs"),
        (lambda b: b.update(request=b["request"].replace('"items":', '"items":[],"items":')), "request_malformed"),
        (lambda b: b.update(request=b["request"].replace("end of retention", "no reason at all")), "detail_request_differs"),
    ],
)  # fmt: skip
def test_parts_that_are_swapped_left_out_or_forged(executed: dict[str, Any], trust: Trust, change: Any, code: str) -> None:
    bundle = copy.deepcopy(executed)
    change(bundle)
    assert code in check(bundle, trust)


@pytest.mark.requirement("R31")
def test_another_logs_keys_verify_nothing(ward: Ward, executed: dict[str, Any], trust: Trust) -> None:
    forged = Trust(
        trust.origin, (trust.keys[0].__class__(trust.keys[0].name, trust.keys[0].type, bytes(len(trust.keys[0].public))),)
    )
    assert check(executed, forged)


def test_open_and_denied_bundles_say_so(ward: Ward, doomed: str, trust: Trust, tmp_path: Path) -> None:
    approval = ward.ask(doomed)["id"]
    ward.sign(approval, "operator")
    code, report = ward.verify(ward.bundle(approval), tmp_path)
    assert (code, report["approved"], report["status"]) == (0, False, "open")
    assert ward.post(f"/v1/approvals/{approval}/deny", "custodian", {"reason": "no"}).status_code == 200
    code, report = ward.verify(ward.bundle(approval), tmp_path)
    assert (code, report["approved"], report["status"]) == (0, False, "denied")


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"format": "keyclave/approval-bundle/2"}', b"\xff", b"[" * 5000])
def test_what_is_no_bundle_cannot_be_verified(raw: bytes, trust: Trust) -> None:
    with pytest.raises(Exception, match="bundle"):
        verify_approval(raw, "file", trust)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\x80", b"\xa1", b"\xa1\x01", b"\xa1\x01\x01\x00", b"\xa2\x01\x01\x01\x01", b"\xa1\x01\x18\x05", b"\xa1\x01\x61a",
        b"\xa1\x41a\x01", b"\xbf\x01\x01\xff", b"\xa1\x01\x42a", b"\xa1\x01\x1f", b"\xa1\x01\x59\x00\x05aaaaa", b"\xb8\x18" + b"\x01\x01" * 24,
    ],
)  # fmt: skip
def test_what_is_no_cose_key_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"COSE|label|length|follows"):
        read_cose(raw)


@pytest.mark.parametrize("text", ["a", "ab=", "a+b/", "AB", None, 5, "ä"])
def test_what_is_no_base64url_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="base64url"):
        base64url(text)
    assert base64url(base64.urlsafe_b64encode(b"\x01\x02").decode().rstrip("=")) == b"\x01\x02"


def test_the_verdict_says_what_it_did_not_prove(ward: Ward, executed: dict[str, Any], trust: Trust) -> None:
    """That something did not happen is in no bundle: whoever reads the verdict is told, on the screen and in JSON."""
    report = verify_approval(json.dumps(executed).encode(), "bundle", trust)
    (said,) = report.unproved
    assert "until the execution no approver was disabled" in said and "authenticator-revoke" in said
    first = min(one["receipt"]["index"] for one in executed["signatures"])
    assert said.endswith(f"after event {first}")
    assert "- not proved  that until" in report.to_text(color=False)
    assert json.loads(report.to_json())["not_proved"] == [said] and report.good
    passkey = copy.deepcopy(executed)
    passkey["signatures"][0]["kind"] = "passkey"
    assert any("give --rp-id" in one for one in verify_approval(json.dumps(passkey).encode(), "bundle", trust).unproved)
    told = verify_approval(json.dumps(passkey).encode(), "bundle", trust, rp_id="localhost", origins=("https://localhost",))
    assert not any("give --rp-id" in one for one in told.unproved)
