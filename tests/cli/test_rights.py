"""The command line on grants, roles for a while and broken glass: a ward's day, told by those who live it."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from keyclave_cli import profiles
from keyclave_cli.commands.elevation import clock_text
from tests.cli.transcript import Done, Prompt
from tests.live import Live

pytestmark = pytest.mark.requirement("R10", "R16", "R29")
_number = itertools.count()


def introduced(live: Live, role: str, scope: Any = None) -> str:
    """Return the name, and the profile, of a new principal."""
    name = f"cli-{role}-{next(_number)}"
    by = "operator" if role == "application" else "custodian"
    body = {"principal": name, "role": role, "ttl_seconds": 3600, "scope": scope}
    token = live.post("/v1/credentials", by, body).json()["token"]
    profiles.write_profile(name, None, live.url, live.ca_file, token, replace=True)
    return name


def said(done: Done) -> Any:
    assert done.code == 0, done.err
    return json.loads(done.text)


def test_a_grant_is_given_used_given_on_and_taken_away(live: Live, people: Prompt) -> None:
    app = introduced(live, "application", {"operations": ["encrypt"], "keys": ["nothing"]})
    other = introduced(live, "application", {"operations": ["encrypt"], "keys": ["nothing"]})
    key = str(live.create_key(f"cli-granted-{next(_number)}")["name"])
    use = f"keyclave --profile {app} --purpose-of-use treatment use encrypt {key} -c ward=3"
    (people.folder / "chart").write_text("x")
    assert people.line(use + " < chart").code == 1
    made = said(
        people.line(
            f"keyclave --json --profile operator grant create {app} -o encrypt -k {key} -c ward=3 -c ward=4 --for-purpose treatment "
            "--uses 3 --delegate --ttl 2h --reason rounds"
        )
    )
    assert (made["status"], made["remaining"], made["context"]) == ("live", 3, {"ward": ["3", "4"]})
    done = people.line(use + " < chart")
    assert done.code == 0, done.err
    assert people.line(use.replace("ward=3", "ward=5") + " < chart").code == 1
    assert people.line(use.replace("--purpose-of-use treatment ", "") + " < chart").code == 1
    shown = people.line(f"keyclave --profile {app} grant show {made['id']}").text
    assert "2 of 3" in shown
    on = said(
        people.line(
            f"keyclave --json --profile {app} grant create {other} -o encrypt -k {key} -c ward=3 --for-purpose treatment --ttl 1h "
            f"--parent {made['id']}"
        )
    )
    assert on["parent"] == made["id"]
    listed = people.line(f"keyclave --profile {app} grant list").text
    assert made["id"] in listed and on["id"] in listed
    assert "retired" in people.line(f"keyclave --profile {other} grant retire {on['id']}").text
    assert "revoked" in people.line(f"keyclave --profile operator grant revoke {made['id']} --reason left").text
    assert people.line(use + " < chart").code == 1
    assert made["id"] not in people.line(f"keyclave --profile {app} grant list").text
    assert made["id"] in people.line(f"keyclave --profile {app} grant list --all").text


def test_a_role_is_taken_on_seen_and_ended(live: Live, people: Prompt) -> None:
    name = introduced(live, "person")
    refused = people.line(f"keyclave --profile {name} elevate operator --reason 'incident 12'")
    assert refused.code == 1
    assert "not eligible" in refused.err
    creating = f"keyclave --json --profile custodian eligibility create {name} operator --days 30"
    assert "nobody acts alone" in people.line(creating).err
    approval = live.approved("POST", "/v1/eligibilities", "custodian", {"principal": name, "role": "operator", "days": 30})
    made = said(people.line(f"{creating} --approval {approval}"))
    assert name in people.line("keyclave --profile operator eligibility list").text
    taken = people.line(f"keyclave --profile {name} elevate operator --reason 'incident 12' --minutes 20")
    assert taken.code == 0, taken.err
    assert "20 min" in taken.text or "19 min" in taken.text
    whoami = people.line(f"keyclave --profile {name} whoami").text
    assert "operator" in whoami and "left: incident 12" in whoami
    assert name in people.line("keyclave --profile auditor elevation list").text
    ended = people.line(f"keyclave --profile {name} elevation end --reason done")
    assert "operator no longer" in ended.text
    assert people.line(f"keyclave --profile {name} elevation end").code == 2
    assert "incident 12" not in people.line(f"keyclave --profile {name} elevation list").text
    assert "incident 12" in people.line(f"keyclave --profile {name} elevation list --all").text
    assert "revoked" in people.line(f"keyclave --profile operator eligibility revoke {made['id']}").text


def test_the_glass_is_broken_seen_and_reviewed(live: Live, people: Prompt) -> None:
    name = introduced(live, "person")
    key = str(live.create_key(f"cli-ward-{next(_number)}")["name"])
    body = {"principal": name, "role": "break-glass", "keys": [key]}
    approval = live.approved("POST", "/v1/eligibilities", "custodian", body)
    made = people.line(f"keyclave --profile custodian eligibility create {name} break-glass -k {key} --approval {approval}")
    assert made.code == 0, made.err
    assert name not in people.line("keyclave --profile operator eligibility list").text
    breaking = f"keyclave --profile {name} break-glass --reason 'unconscious on arrival' --minutes 5"
    assert people.line(breaking).code == 2  # nobody is named, and nobody can be asked
    (people.folder / "mrn").write_text("p-17\n")
    broken = said(people.line(breaking.replace("keyclave", "keyclave --json", 1) + " --reference-file mrn"))
    assert broken["keys"] == [key]
    assert "alarm" in people.line("keyclave --profile auditor status").err
    assert "alarm list" in people.line("keyclave --profile auditor whoami").err
    alarm = next(a for a in said(people.line("keyclave --json --profile auditor alarm list")) if a["elevation"] == broken["id"])
    assert (alarm["principal"], alarm["kind"]) == (name, "break-glass")
    assert "acknowledged" in people.line(f"keyclave --profile auditor alarm acknowledge {alarm['id']}").text
    assert people.line(f"keyclave --profile {name} elevation end").code == 0
    assert broken["id"] in people.line("keyclave --profile auditor review").text
    assert people.line(f"keyclave --profile auditor review {broken['id']}").code == 2
    found = {"verdict": "justified", "notes": "chart checked"}
    approval = live.approved("POST", f"/v1/elevations/{broken['id']}/review", "auditor", found)
    done = people.line(
        f"keyclave --profile auditor review {broken['id']} --verdict justified --notes 'chart checked' --approval {approval}"
    )
    assert "justified" in done.text, done.err
    assert broken["id"] not in people.line("keyclave --profile auditor review").text
    seen = said(people.line(f"keyclave --json --profile auditor audit events --grant {broken['id']}"))
    assert [event["leaf"]["op"] for event in seen] == ["whoami", "elevation-end"]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (1170, "19 min 30 s")])
def test_the_clock_is_told_as_people_say_it(seconds: int, text: str) -> None:
    assert clock_text(seconds) == text
