"""Nobody alone: the demonstration of people. A team forms, takes on roles, and destroys a key as no one of them could."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from demo.beginning import undisturbed
from demo.crew import Person
from demo.house import House, read_once
from demo.screen import Screen, Unproven
from keyclave_client.errors import KeyclaveError

_KEY = "trial-2017"
_RECORD = "cGF0aWVudCA0NzExLCBhcm0gQQ=="  # patient 4711, arm A


def tell(port: int) -> int:
    """Play it in a folder that goes again; return 0 only if every claim held."""
    screen = Screen()
    folder = Path(tempfile.mkdtemp(prefix="keyclave-people-"))
    try:
        with House(folder, port, screen) as house:
            try:
                _play(house, screen)
            except Unproven as claim:
                screen.fail("NOT PROVEN", str(claim), house.said())
                return 1
            except (KeyclaveError, RuntimeError, OSError, ValueError, KeyError) as error:
                screen.fail("The demonstration broke off", f"{type(error).__name__}: {error}", house.said())
                return 1
    finally:
        with undisturbed():
            shutil.rmtree(folder)
    screen.summary(
        [
            ("A server of your own, with people who log in by passkey:", ("keyclave init --people passkeys", "keyclave serve")),
            (
                "What each of them does next:",
                ("keyclave login", "keyclave approval list", "keyclave elevate operator --reason …"),
            ),
        ]
    )
    return 0


def _play(house: House, screen: Screen) -> None:
    with screen.chapter("A house whose people prove themselves"):
        tokens = _begin(house, screen)
    with screen.chapter("Passkeys instead of tokens"):
        ada, omar, ines = _first_people(house, tokens, screen)
    with screen.chapter("Two let a third one in"):
        grace = _invite(house, ada, omar, screen)
    with screen.chapter("A role for a quarter of an hour"):
        application = _elevate(house, ada, ines, omar, screen)
    with screen.chapter("Ask for a destruction"):
        approval = _ask(ada, omar, grace, application, screen)
    with screen.chapter("Approved by two"):
        _approve(ada, omar, ines, grace, approval, application, screen)
    with screen.chapter("Verify it, offline"):
        _verify(house, ines, approval, screen)


def _begin(house: House, screen: Screen) -> dict[str, str]:
    made = house.folder / "ceremony.json"
    house.keyclave(
        "init", "--home", str(house.home), "--development", "--people", "passkeys", "--port", str(house.port), "--out-json", str(made),
    )  # fmt: skip
    tokens: dict[str, str] = read_once(made)["credentials"]
    house.start()
    stranger = Person(house, "somebody")
    code = stranger.refused("POST", "/v1/keys", {"name": "k", "owner": "o"}, token=tokens["custodian"])
    screen.prove(code == "assurance_required", "a token alone does nothing in a duty: people prove themselves with a passkey")
    screen.result("tokens of people open nothing but the door to a passkey")
    return tokens


def _first_people(house: House, tokens: dict[str, str], screen: Screen) -> tuple[Person, Person, Person]:
    people = []
    for name, duty in (("Ada", "custodian"), ("Omar", "operator"), ("Ines", "auditor")):
        person = Person(house, name)
        person.enrol(tokens[duty])
        me = person.login()
        screen.prove(
            (me["role"], me["how"], me["aal"]) == (duty, "passkey", 3),
            f"{name}, {duty}, enrols a passkey and logs in: assurance level 3, until {me['expires_at'][11:16]} UTC",
        )
        again = person.refused("POST", "/v1/authenticators/passkey/begin", token=tokens[duty])
        screen.prove(again != "", f"the first token of {name} enrols nothing more")
        people.append(person)
    screen.result("three duties, three people, three passkeys")
    return people[0], people[1], people[2]


def _invite(house: House, ada: Person, omar: Person, screen: Screen) -> Person:
    wanted = {"principal": "grace", "role": "custodian", "hours": 4}
    screen.prove(ada.refused("POST", "/v1/invitations", wanted) == "approval_required", "Ada cannot let anybody in alone")
    asked = ada.ask("invitation-create", "", wanted, "second custodian, as the policy asks")
    screen.prove(ada.refused("POST", f"/v1/approvals/{asked['id']}/begin") != "", "and cannot approve what she asks for herself")
    omar.approve(asked["id"])
    invited = ada.execute(asked["id"])
    screen.say("Omar signs with his passkey; Ada hands the invitation over")
    grace = Person(house, "Grace")
    grace.accept(invited["token"])
    me = grace.login()
    screen.prove((me["principal"], me["role"]) == ("grace", "custodian"), "Grace takes it up with a passkey of her own")
    late = Person(house, "Mallory").refused("POST", "/v1/enrolment/begin", {"invitation": invited["token"]}, token="")
    screen.prove(late != "", "the invitation is used up")
    screen.result("asked by one, approved by another, used once")
    return grace


def _elevate(house: House, ada: Person, ines: Person, omar: Person, screen: Screen) -> Person:
    noor = Person(house, "Noor")
    invited = ada.must("POST", "/v1/invitations", {"principal": "noor", "role": "person", "hours": 4, "reason": "night shift"})
    waiting = noor.refused("POST", "/v1/enrolment/begin", {"invitation": invited["token"]}, token="")
    omar.must("POST", f"/v1/invitations/{invited['id']}/confirm", {"reason": "known to me"})
    screen.prove(waiting != "", "Ada invites Noor, without a duty; the invitation opens nothing until Omar has confirmed it")
    noor.accept(invited["token"])
    asked = ada.ask("eligibility-create", "", {"principal": "noor", "role": "operator", "days": 90}, "runs the keys at night")
    ines.approve(asked["id"])
    ada.execute(asked["id"])
    noor.login()
    issued = {"principal": "trial-reader", "role": "application", "ttl_seconds": 3600,
              "scope": {"operations": ["encrypt", "decrypt"], "keys": [_KEY]}}  # fmt: skip
    screen.prove(noor.refused("POST", "/v1/credentials", issued) == "refused", "Noor holds no duty, and may do nothing")
    taken = noor.must(
        "POST", "/v1/elevations", {"role": "operator", "reason": "the trial's reader needs a credential", "minutes": 15}
    )
    me = noor.must("GET", "/v1/whoami")
    screen.prove(
        me["role"] == "operator" and me["elevation"] is not None,
        f"she takes the operator's role on, until {me['expires_at'][11:16]} UTC",
    )
    reader = Person(house, "the trial's reader")
    ada.must("POST", "/v1/keys", {"name": _KEY, "owner": "research office", "classification": "ephi"})
    reader.session = str(noor.must("POST", "/v1/credentials", issued)["token"])
    noor.must("POST", f"/v1/elevations/{taken['id']}/end", {"reason": "done"})
    noor.login()
    screen.prove(
        noor.refused("POST", "/v1/credentials", issued) == "refused", "the role is gone when she lays it down, or by itself"
    )
    screen.result("a reason, a clock, an end")
    return reader


def _ask(ada: Person, omar: Person, grace: Person, reader: Person, screen: Screen) -> str:
    sealed = reader.must("POST", f"/v1/keys/{_KEY}/encrypt", {"plaintext": _RECORD, "context": {"trial": "2017"}})
    reader.must("POST", f"/v1/keys/{_KEY}/decrypt", {"ciphertext": sealed["ciphertext"], "context": {"trial": "2017"}})
    why = "the trial's retention ended"
    omar.must("POST", f"/v1/keys/{_KEY}/deactivate", {"version": 1, "reason": why})
    grace.must("POST", f"/v1/keys/{_KEY}/schedule-destruction", {"version": 1, "days": 0, "reason": why})
    act = {"version": 1, "reason": why}
    screen.prove(ada.refused("POST", f"/v1/keys/{_KEY}/destroy", act) == "approval_required", "nobody destroys a key alone")
    asked = ada.ask("destroy", _KEY, act, why)
    screen.say(
        f"Ada asks: {asked['operation']} {_KEY}, version 1. What is signed has the SHA-256 {asked['request_sha256'][:16]}…"
    )
    screen.result("one exact request, written down")
    return str(asked["id"])


def _approve(ada: Person, omar: Person, ines: Person, grace: Person, approval: str, reader: Person, screen: Screen) -> None:
    screen.prove(ines.refused("POST", f"/v1/approvals/{approval}/begin") != "", "the auditor, who watches, has no voice in it")
    omar.approve(approval)
    early = ada.refused("POST", f"/v1/approvals/{approval}/execute")
    screen.prove(early == "approval_required", "one approval of two is not enough")
    grace.approve(approval)
    other = ada.refused("POST", f"/v1/keys/{_KEY}/destroy", {"version": 1, "reason": "another"}, keyclave_approval=approval)
    screen.prove(other == "refused", "with both it is done to the letter, or not at all")
    gone = ada.execute(approval)
    screen.prove(gone["versions"][0]["state"] == "destroyed", "Ada executes it: the key version is destroyed")
    again = ada.refused("POST", f"/v1/approvals/{approval}/execute")
    screen.prove(again == "wrong_state", "a second time there is nothing to execute")
    left = reader.refused("POST", f"/v1/keys/{_KEY}/encrypt", {"plaintext": _RECORD})
    screen.prove(left != "", "and the trial's reader finds nothing to use")
    screen.result("two others signed exactly this; it was done once")


def _verify(house: House, ines: Person, approval: str, screen: Screen) -> None:
    bundle = _covered(ines, approval)
    keys, kept, forged = (house.folder / name for name in ("log.vkeys", "approval.json", "forged.json"))
    keys.write_text("\n".join(ines.must("GET", "/v1/log/keys")["vkeys"]) + "\n")
    kept.write_text(json.dumps(bundle))
    code, report = house.verify("approval", str(kept), "--vkey-file", str(keys))
    screen.prove(
        code == 0 and report["good"], "signatures, enrolments, count and record hold, checked with the log's public keys alone"
    )
    forged.write_text(json.dumps(bundle).replace("retention ended", "retention starts"))
    code, report = house.verify("approval", str(forged), "--vkey-file", str(keys))
    screen.prove(code == 1 and not report["good"], "a changed word in it is found")
    screen.result("anyone can check, years later")


def _covered(ines: Person, approval: str) -> dict[str, Any]:
    """Return the evidence, once a checkpoint covers it: a second at most."""
    deadline = time.monotonic() + 15
    while True:
        status, bundle = ines.send("GET", f"/v1/approvals/{approval}/bundle")
        if status == 200:
            return bundle
        if time.monotonic() > deadline:
            raise RuntimeError(f"no evidence: {bundle.get('detail')}")
        time.sleep(0.05)  # between two looks at the condition
