"""Several writers of one file, and acts that rest on more than one key: whichever of them another has changed, it is met."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from keyclave.operations.attempt import Attempt
from keyclave.policy.bundle import RULES, checked_bundle
from tests.store.inside import Inside, operation, two_inside

pytestmark = pytest.mark.file_store("processes that take turns at one file; nodes of PostgreSQL are in tests/cluster")

APPROVED = '\n[[sensitive]]\noperations = ["re-encrypt", "sign"]\ncount = 1\nroles = ["operator"]\nhours = 1\n'


class Scene:
    """Two processes that serve one home, three keys that both know, and an application with a ciphertext of the first."""

    def __init__(self, one: Inside, other: Inside) -> None:
        self.one, self.other = one, other
        for name in ("chart", "lab", "study"):
            one.get("key-create", "custodian", "", {"name": name, "owner": "o"})
        self.app = one.application(["encrypt", "re-encrypt", "sign"], ["*"])
        other.tokens[self.app] = self.app
        plain = {"plaintext": base64.b64encode(b"record").decode()}
        self.sealed = other.get("encrypt", self.app, "chart", plain)["ciphertext"]
        for name in ("lab", "study"):
            other.get("encrypt", self.app, name, plain)

    def to(self, name: str) -> dict[str, str]:
        return {"ciphertext": self.sealed, "to_key": name}

    def begin_batch(self, *names: str) -> list[Attempt]:
        """Have the other process move a ciphertext to each of these keys, up to the commit."""
        body = {"items": [self.to(name) for name in names]}
        return self.other.begin("re-encrypt", self.app, "chart", body, batch=True)

    def results(self, begun: list[Attempt]) -> list[str]:
        """Commit, and return the outcome of each item."""
        self.other.store.flush()
        (attempt,) = begun
        assert attempt.error is None
        return [result.error.code if hasattr(result, "error") else "ok" for result in attempt.answer.results]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with two_inside(tmp_path) as (one, other):
        yield Scene(one, other)


@pytest.mark.requirement("P4", "R24")
@pytest.mark.parametrize("move", ["suspend", "compromise"])
@pytest.mark.parametrize("order", [("lab", "study"), ("study", "lab")])
def test_every_target_of_a_batch_is_seen_as_it_is_now(scene: Scene, move: str, order: tuple[str, str]) -> None:
    """The last target alone was remembered: the others went on being used after the change of them was answered."""
    waiting = scene.begin_batch(*order)
    scene.one.get(move, "custodian", "lab", {"reason": "a leak"})
    assert dict(zip(order, scene.results(waiting), strict=True)) == {"lab": "wrong_state", "study": "ok"}


@pytest.mark.requirement("P4", "R24")
def test_a_target_is_met_by_its_id_as_by_its_name(scene: Scene) -> None:
    lab = scene.one.get("key-read", "operator", "lab")["id"]
    waiting = scene.begin_batch(lab, "study")
    scene.one.get("suspend", "custodian", "lab", {"reason": "a leak"})
    assert scene.results(waiting) == ["wrong_state", "ok"]


@pytest.mark.requirement("R5")
@pytest.mark.parametrize("batch", [False, True])
def test_a_target_that_was_not_there_and_is_made_there_is_found(scene: Scene, batch: bool) -> None:
    """Looked for in vain here and made there: the answer was one wrong 404, the first after the creation."""
    assert scene.results(scene.begin_batch("new", "lab")) == ["unknown", "ok"]
    scene.one.get("key-create", "custodian", "", {"name": "new", "owner": "o"})
    if batch:
        assert scene.results(scene.begin_batch("new", "lab")) == ["ok", "ok"]
    else:
        assert scene.other.ask("re-encrypt", scene.app, "chart", scene.to("new")).error is None


@pytest.mark.requirement("P4", "R24", "R31")
def test_a_target_within_an_approved_act_is_seen_as_it_is_now(scene: Scene) -> None:
    """What is done within an execution rests on keys of its own."""
    for inside in (scene.one, scene.other):
        put_rules(inside, lambda text: text + APPROVED)
    approval = approved(scene.one, scene.app, "re-encrypt", "chart", scene.to("lab"))
    waiting = scene.other.begin("approval-execute", scene.app, approval)
    scene.one.get("suspend", "custodian", "lab", {"reason": "a leak"})
    scene.other.store.flush()
    (attempt,) = waiting
    assert [result.error and result.error.code for result in attempt.answer.results] == ["wrong_state"]


@pytest.mark.requirement("P4", "R24", "R31")
def test_a_slow_use_within_an_approved_act_is_asked_about_again(scene: Scene) -> None:
    """Worked out on another thread while the key was suspended at the same process: the signature must not leave."""
    here = scene.one
    here.get("key-create", "custodian", "", {"name": "seal", "owner": "o", "spec": "rsa-3072", "purpose": "sign"})
    put_rules(here, lambda text: text + APPROVED)
    message = {"message": base64.b64encode(b"order").decode()}
    approval = approved(here, scene.app, "sign", "seal", message)
    worked: list[Callable[[], Any]] = []
    at_once = here.desk.on_loop
    here.desk.on_loop = lambda fn, *arguments: worked.append(partial(fn, *arguments))
    waiting = here.begin("approval-execute", scene.app, approval)
    here.desk.on_loop = at_once
    here.get("suspend", "custodian", "seal", {"reason": "a leak"})
    worked.pop()()
    here.store.flush()
    (attempt,) = waiting
    assert [result.error and result.error.code for result in attempt.answer.results] == ["wrong_state"]


def put_rules(inside: Inside, change: Callable[[str], str]) -> None:
    """Put changed rules in force at one process, without a request for it."""
    revisions, tenant = inside.desk.access.revisions, inside.desk.callers.authenticate(inside.tokens["operator"].encode()).tenant
    files = dict(revisions.of(tenant).bundle.files)
    files[RULES] = change(files[RULES])
    revisions.put(tenant, revisions.number(tenant), revisions.compiler.compile(checked_bundle(files)))


def approved(inside: Inside, who: str, name: str, ref: str, body: dict[str, Any]) -> str:
    """Ask for approval as an application and have the operator sign."""
    made = inside.approvers.request(operation(name).name, ref, body, who)
    inside.approvers.approve(made["id"], who, [inside.tokens["operator"]])
    return str(made["id"])
