"""An approval beside an exported log: that nothing was revoked, nobody disabled in between, and at which level each key was enrolled."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from keyclave.audit.note import signer_keys
from keyclave_verify.approvals import verify_approval
from keyclave_verify.directory import LogDirectory
from keyclave_verify.report import Report
from tests.approvals.made_log import ORIGIN, Approved, MadeLog
from tests.live import ENVIRONMENT

pytestmark = pytest.mark.requirement("R31", "P2")


def happening(*what: tuple[str, str, dict[str, Any]]) -> Any:
    """Return what adds events: (moment before which, operation, fields)."""

    def between(log: MadeLog, moment: str) -> None:
        for when, op, fields in what:
            if when == moment:
                log.add(op, fields.pop("actor", "dan"), **fields)

    return between


def revoke(name: str = "ann", **more: Any) -> dict[str, Any]:
    return {"detail": {"authenticator": f"aut_{name}", "principal": name}, **more}


def person(name: str = "ann", **more: Any) -> dict[str, Any]:
    return {"detail": {"principal": name, **more}}


def check(made: Approved, folder: Path) -> Report:
    log = LogDirectory(made.log.export(folder))
    return verify_approval(made.bundle(), "bundle", made.log.trust(), log=log)


def codes(report: Report) -> list[str]:
    return [fault.code for fault in report.faults]


# ---- the level of what signed ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("aal", "assurance", "found"), [(2, 1, []), (2, 2, []), (2, 3, 2), (1, 2, 2), (3, 3, [])])
def test_a_key_that_was_enrolled_at_too_low_a_level_does_not_count(aal: int, assurance: int, found: Any) -> None:
    made = Approved(MadeLog(), aal=aal, assurance=assurance)
    report = verify_approval(made.bundle(), "bundle", made.log.trust())
    expected = ["assurance_low"] * found + ["not_enough"] if found else []
    assert codes(report) == expected
    assert report.facts["approvers"] == ([] if found else ["ann", "bob"])
    if found:
        assert f"signature 1 proves assurance level {aal}, and {assurance} was asked" in report.to_text(color=False)


@pytest.mark.parametrize("aal", [None, "3", True, 2.5])
def test_a_level_that_is_none_proves_nothing(aal: Any) -> None:
    made = Approved(MadeLog(), aal=aal if aal != 2.5 else "2.5", assurance=1)
    assert "assurance_low" in codes(verify_approval(made.bundle(), "bundle", made.log.trust()))


# ---- what happened in between ---------------------------------------------------------------------------------------------
def test_with_the_log_nothing_is_left_open(tmp_path: Path) -> None:
    made = Approved(MadeLog())
    report = check(made, tmp_path)
    assert (codes(report), report.unproved) == ([], [])
    assert report.facts["log_size"] == len(made.log.entries)
    assert "revocation" in report.checks and "log" in report.checks
    (said,) = verify_approval(made.bundle(), "bundle", made.log.trust()).unproved
    assert "--log DIR" in said


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ([("ann", "authenticator-revoke", revoke())], ["revoked_before"]),
        ([("request", "authenticator-revoke", revoke("bob"))], ["revoked_before"]),
        ([("bob", "authenticator-revoke", revoke())], ["revoked_before_end"]),
        ([("end", "authenticator-revoke", revoke())], ["revoked_before_end"]),
        ([("after", "authenticator-revoke", revoke())], []),
        ([("ann", "authenticator-revoke", revoke("cem"))], []),
        ([("ann", "authenticator-revoke", revoke(outcome="refused"))], []),
        ([("ann", "authenticator-revoke", revoke(tenant="ten_u"))], []),
        ([("ann", "login", {"outcome": "refused", "detail": {"alarm": "sign-count", "authenticator": "aut_ann"}})], ["revoked_before"]),
        ([("end", "authenticator-enrol", {"actor": "ann", "detail": {"replaced": "aut_x,aut_ann"}})], ["revoked_before_end"]),
        ([("ann", "person-disable", person())], ["disabled_before"]),
        ([("request", "person-disable", person()), ("ann", "person-enable", person())], []),
        ([("bob", "person-disable", person()), ("end", "person-enable", person())], []),
        ([("end", "person-disable", person())], ["disabled_before_end"]),
        (
            [("request", "person-disable", person()), ("ann", "person-enable", person()), ("end", "person-disable", person())],
            ["disabled_before_end"],
        ),
        (
            [
                ("request", "person-disable", person()), ("ann", "person-enable", person()), ("bob", "person-disable", person()),
                ("end", "person-enable", person()),
            ],
            [],
        ),
    ],
)  # fmt: skip
def test_what_happened_in_between_is_found(tmp_path: Path, events: list[Any], found: list[str]) -> None:
    made = Approved(MadeLog(), happening(*events))
    assert codes(verify_approval(made.bundle(), "bundle", made.log.trust())) == []  # a bundle alone cannot show it
    report = check(made, tmp_path)
    assert codes(report) == found
    assert report.good is not bool(found)


def test_roles_that_were_taken_meanwhile_are_said_to_be_unproved(tmp_path: Path) -> None:
    made = Approved(MadeLog(), happening(("end", "person-roles", person("bob", take="night-shift", give=""))))
    (said,) = check(made, tmp_path).unproved
    assert "roles were taken" in said


def test_an_export_that_ends_too_early_or_is_of_another_log_proves_nothing(tmp_path: Path) -> None:
    made = Approved(MadeLog())
    whole, made.log.entries = made.log.entries, made.log.entries[:4]
    short = LogDirectory(made.log.export(tmp_path / "short"))
    made.log.entries = whole
    found = codes(verify_approval(made.bundle(), "bundle", made.log.trust(), log=short))
    assert "log_too_short" in found
    other = Approved(MadeLog())
    assert "log_differs" in codes(
        verify_approval(made.bundle(), "bundle", made.log.trust(), log=LogDirectory(other.log.export(tmp_path / "other")))
    )


def test_an_export_that_was_changed_is_no_proof(tmp_path: Path) -> None:
    made = Approved(MadeLog(), happening(("ann", "authenticator-revoke", revoke())))
    folder = made.log.export(tmp_path)
    path = next(folder.glob("tile/entries/000.p/*"))
    path.write_bytes(path.read_bytes().replace(b"authenticator-revoke", b"authenticator-review"))
    report = verify_approval(made.bundle(), "bundle", made.log.trust(), log=LogDirectory(folder))
    assert "entry_mismatch" in codes(report) and not report.good


def test_the_program_takes_the_log(tmp_path: Path) -> None:
    made = Approved(MadeLog(), happening(("end", "person-disable", person("bob"))))
    (tmp_path / "bundle.json").write_bytes(made.bundle())
    (tmp_path / "vkeys").write_text("\n".join(map(str, signer_keys(ORIGIN, made.log.signer))) + "\n")
    command = [sys.executable, "-m", "keyclave_verify", "approval", "bundle.json", "--vkey-file", "vkeys", "--json"]
    made.log.export(tmp_path / "log")
    for more, code in (([], 0), (["--log", "log"], 1), (["--log", "absent"], 2)):
        done = subprocess.run([*command, *more], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        if code < 2:
            assert [fault["code"] for fault in json.loads(done.stdout)["faults"]] == ["disabled_before_end"] * code
