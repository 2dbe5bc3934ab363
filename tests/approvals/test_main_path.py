"""A sensitive operation from the request to the proof: asked, signed by two others, executed once, verified offline."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.approvals.ward import Ward


@pytest.mark.requirement("R15", "R16", "R31")
def test_a_destruction_is_asked_for_signed_executed_and_proved(ward: Ward, doomed: str, tmp_path: Path) -> None:
    alone = ward.post(f"/v1/keys/{doomed}/destroy", "second", {"version": 1, "reason": "over"})
    assert (alone.status_code, alone.json()["code"]) == (403, "approval_required")
    assert "keyclave approval request destroy" in alone.json()["hint"]
    made = ward.ask(doomed)
    assert (made["status"], made["needed"], made["signatures"]) == ("pending", 2, [])
    ward.sign(made["id"], "custodian")
    half = ward.execute(made["id"])
    assert (half.json()["code"], "1 of 2" in half.json()["detail"]) == ("approval_required", True)
    ward.sign(made["id"], "operator")
    assert ward.show(made["id"])["status"] == "approved"
    done = ward.execute(made["id"])
    assert done.status_code == 200, done.text
    (result,) = done.json()["results"]
    assert result["answer"]["versions"][0]["state"] == ward.state(doomed) == "destroyed"
    again = ward.execute(made["id"])
    assert (again.status_code, again.json()["code"]) == (409, "wrong_state")
    code, report = ward.verify(ward.bundle(made["id"]), tmp_path)
    assert code == 0, report["faults"]
    assert (report["approved"], report["approvers"]) == (True, ["first-custodian", "first-operator"])
    assert (report["status"], report["outcomes"]) == ("executed", [f"{doomed}: ok"])


def test_the_normal_call_with_the_approvals_id_does_it_once(ward: Ward, doomed: str, tmp_path: Path) -> None:
    approval, path = ward.approved(doomed), f"/v1/keys/{doomed}/destroy"
    headers = {"keyclave-approval": approval}
    done = ward.post(path, "second", {"version": 1, "reason": "over"}, headers=headers)
    assert done.status_code == 200, done.text
    assert ward.post(path, "second", {"version": 1, "reason": "over"}, headers=headers).status_code == 409
    code, report = ward.verify(ward.bundle(approval), tmp_path)
    assert (code, report["status"]) == (0, "executed"), report["faults"]
