"""No path to a sensitive operation with fewer than M distinct approvers, over random policies and histories.

A model keeps who signed what, who is enabled, whose key is revoked, what the rule was and is. Whatever is tried, by whichever way,
a key is destroyed only when the model counts enough; and when it counts enough, the requester's execution succeeds, so the
property is not kept by refusing everything.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from keyclave.policy.bundle import Bundle, standard
from tests.approving import Approver
from tests.protocols.inside import Inside, inside

DAY = 30 * 86_400
HOUR = 3600 * 1_000_000
PEOPLE = {
    "cora": "custodian",
    "carl": "custodian",
    "cleo": "custodian",
    "olga": "operator",
    "otto": "operator",
    "anna": "auditor",
}
ROLES = ("custodian", "operator", "auditor")
_number = itertools.count()

names = st.sampled_from(sorted(PEOPLE))
some_rule = st.tuples(st.integers(1, 4), st.sets(st.sampled_from(ROLES), min_size=1), st.sampled_from([1, 24]))


@dataclass
class Asked:
    """A request as the model knows it."""

    id: str
    key: str
    requester: str
    rule: tuple[int, frozenset[str], int]
    at: int
    signers: dict[str, str] = field(default_factory=dict)  # name to the authenticator that signed
    over: bool = False


class House:
    """One server for every example: its people are put back to where they began."""

    def __init__(self, server: Inside) -> None:
        self.server = server
        self.tokens = {"first-custodian": server.tokens["custodian"], "first-operator": server.tokens["operator"]}
        for name in PEOPLE:
            self.tokens[name] = server.issue(name, PEOPLE[name], ttl=DAY)[1]
        self.approvers = {name: server.approvers.of(self.tokens[name]) for name in PEOPLE}
        self.revision = 1
        self.executed = 0
        self.tenant = server.desk.callers.authenticate(self.tokens["cora"].encode()).tenant

    def send(self, path: str, ref: str, who: str, body: Any, approval: str = "") -> tuple[int, dict[str, Any]]:
        status, text = self.server.ask("POST", path, self.tokens[who], json.dumps(body).encode(), ref=ref, approval=approval)
        return status, dict(json.loads(text))

    def put_rule(self, count: int, roles: set[str] | frozenset[str], hours: int) -> None:
        files = dict(standard(people="tokens").files)
        text = files["rules.toml"].replace('classes = ["destruction", "export"]\ncount = 2\nroles = ["custodian", "operator"]\nhours = 24',
            f'operations = ["destroy"]\ncount = {count}\nroles = {json.dumps(sorted(roles))}\nhours = {hours}')  # fmt: skip
        assert text != files["rules.toml"] or (count, set(roles), hours) == (2, {"custodian", "operator"}, 24)
        revisions = self.server.desk.access.revisions
        self.revision += 1
        revisions.put(self.tenant, self.revision, revisions.compiler.compile(Bundle(files={**files, "rules.toml": text})))

    def enable(self, who: str) -> None:
        """Let somebody in again, whom two people outside the model stand behind."""
        asked = {"operation": "person-enable", "ref": who, "request": {"reason": "back"}, "reason": "back"}
        approval = self.send("/v1/approvals", "", "first-custodian", asked)[1]["id"]
        assert self.server.approvers.of(self.tokens["first-operator"]).sign(approval)[0] == 200
        status, answer = self.send("/v1/people/{person}/enable", who, "first-custodian", {"reason": "back"}, approval)
        assert status == 200, answer

    def key(self) -> str:
        name = f"key-{next(_number)}"
        assert self.send("/v1/keys", "", "first-custodian", {"name": name, "owner": "o"})[0] == 201
        assert self.send("/v1/keys/{key}/deactivate", name, "first-operator", {"reason": "over"})[0] == 200
        scheduled = {"version": 1, "days": 0, "reason": "end of retention"}
        assert self.send("/v1/keys/{key}/schedule-destruction", name, "first-custodian", scheduled)[0] == 200
        return name

    def destroyed(self, key: str) -> bool:
        status, text = self.server.ask("GET", "/v1/keys/{key}", self.tokens["first-custodian"], ref=key)
        assert status == 200
        return bool(json.loads(text)["versions"][0]["state"] == "destroyed")


def machine(house: House) -> type[RuleBasedStateMachine]:
    class Approvals(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[Asked] = []
            self.gone: set[str] = set()
            self.disabled: set[str] = set()
            self.rule: tuple[int, frozenset[str], int] = (2, frozenset(("custodian", "operator")), 24)
            self.clock = house.server.desk.clock
            self.began = self.clock._ahead  # type: ignore[attr-defined]

        def now(self) -> int:
            return self.clock.now()

        def counted(self, one: Asked) -> int:
            """Return how many signatures count now, by the model's own reckoning."""
            rules = (one.rule, self.rule)
            return sum(
                name != one.requester
                and name not in self.disabled
                and house.approvers[name].authenticator == authenticator
                and all(PEOPLE[name] in roles for _, roles, _ in rules)
                for name, authenticator in one.signers.items()
            )

        def good(self, one: Asked) -> bool:
            hours = min(one.rule[2], self.rule[2])
            needed = max(one.rule[0], self.rule[0])
            return not one.over and self.now() < one.at + hours * HOUR and self.counted(one) >= needed

        def settle(self, one: Asked, *, done: bool) -> None:
            if done:
                assert self.good(one), "destroyed, though the model does not count enough"
                one.over = True
                self.gone.add(one.key)
                house.executed += 1

        @initialize(given=some_rule)
        def begin(self, given: tuple[int, set[str], int]) -> None:
            self.change_rule(given)

        @rule(given=some_rule)
        def change_rule(self, given: tuple[int, set[str], int]) -> None:
            house.put_rule(*given)
            self.rule = (given[0], frozenset(given[1]), given[2])

        @rule(who=st.sampled_from(["cora", "carl", "cleo"]))
        def ask(self, who: str) -> None:
            if not (who not in self.disabled and len(self.asked) < 4):
                return
            key = house.key()
            body = {"operation": "destroy", "ref": key, "request": {"version": 1, "reason": "over"}, "reason": "over"}
            status, made = house.send("/v1/approvals", "", who, body)
            assert status == 201, made
            self.asked.append(Asked(made["id"], key, who, self.rule, self.now()))

        @rule(who=names, which=st.integers(0, 3))
        def sign(self, who: str, which: int) -> None:
            if not (which < len(self.asked)):
                return
            one, approver = self.asked[which], house.approvers[who]
            may = all(PEOPLE[who] in roles for _, roles, _ in (one.rule, self.rule)) and who != one.requester
            hours = min(one.rule[2], self.rule[2])
            may = may and who not in one.signers and who not in self.disabled
            may = may and not one.over and self.now() < one.at + hours * HOUR
            status, answer = approver.sign(one.id)
            assert (status == 200) == may, answer
            if may:
                one.signers[who] = approver.authenticator

        @rule(who=names, other=names, which=st.integers(0, 3))
        def forge(self, who: str, other: str, which: int) -> None:
            """Sign with somebody else's key, or send somebody else's statement."""
            if not (which < len(self.asked) and who != other and who not in self.disabled):
                return
            thief = Approver(
                house.server._send, house.tokens[who], house.approvers[other].key, house.approvers[other].authenticator
            )
            assert thief.sign(self.asked[which].id)[0] != 200
            thief.authenticator = house.approvers[who].authenticator
            assert thief.sign(self.asked[which].id)[0] != 200

        @rule(who=names)
        def disable(self, who: str) -> None:
            by = "otto" if who == "olga" else "olga"
            if not (who not in self.disabled and by not in self.disabled):
                return
            status, answer = house.send("/v1/people/{person}/disable", who, by, {"reason": "away"})
            assert status == 200, answer
            self.disabled.add(who)

        @rule(who=names)
        def enable(self, who: str) -> None:
            if who not in self.disabled:
                return
            house.enable(who)
            self.disabled.discard(who)

        @rule(which=st.integers(0, 3), how=st.sampled_from(["deny", "withdraw"]))
        def end(self, which: int, how: str) -> None:
            if not (which < len(self.asked)):
                return
            one = self.asked[which]
            who = one.requester if how == "withdraw" else "otto"
            if house.send(f"/v1/approvals/{{approval}}/{how}", one.id, who, {"reason": "changed"})[0] == 200:
                one.over = True

        @rule(which=st.integers(0, 3))
        def wait(self, which: int) -> None:
            self.clock._ahead += (which + 1) * HOUR // 2  # type: ignore[attr-defined]

        @rule(which=st.integers(0, 3), who=names, direct=st.booleans())
        def execute(self, which: int, who: str, direct: bool) -> None:
            if not (which < len(self.asked)):
                return
            one = self.asked[which]
            good = self.good(one) and who == one.requester and who not in self.disabled
            if direct:
                body = {"version": 1, "reason": "over"}
                status, answer = house.send("/v1/keys/{key}/destroy", one.key, who, body, one.id)
            else:
                status, answer = house.send("/v1/approvals/{approval}/execute", one.id, who, {})
            assert (status == 200) == good, (status, answer, good)
            self.settle(one, done=status == 200)

        @rule()
        def see_it_through(self) -> None:
            """Ask under a rule that can be met, have all sign who may, and execute: histories are not of refusals alone."""
            if len(self.asked) >= 4:
                return
            self.change_rule(given=(2, set(ROLES), 24))
            for who in sorted(self.disabled):
                self.enable(who=who)
            self.ask(who="carl")
            which = len(self.asked) - 1
            for who in sorted(PEOPLE):
                self.sign(who=who, which=which)
            self.execute(which=which, who="carl", direct=False)

        @rule(which=st.integers(0, 3), other=st.integers(0, 3), who=names)
        def reuse(self, which: int, other: int, who: str) -> None:
            """Use one request's approval for another's key, none at all, or one that never was."""
            if not (which < len(self.asked) and other < len(self.asked) and which != other):
                return
            for approval in (self.asked[other].id, "", "apr_" + "a" * 26):
                body = {"version": 1, "reason": "over"}
                status, _ = house.send("/v1/keys/{key}/destroy", self.asked[which].key, who, body, approval)
                assert status != 200

        @invariant()
        def only_what_was_approved_is_gone(self) -> None:
            for one in self.asked:
                assert house.destroyed(one.key) == (one.key in self.gone)

        def teardown(self) -> None:
            for who in sorted(self.disabled):
                house.enable(who)
            self.clock._ahead = self.began  # type: ignore[attr-defined]
            for one in self.asked:
                house.send("/v1/approvals/{approval}/withdraw", one.id, one.requester, {})

    return Approvals


@pytest.mark.requirement("P3", "R15", "R16", "R31")
def test_nothing_sensitive_is_done_with_fewer_approvers_than_asked(tmp_path: Path) -> None:
    with inside(tmp_path) as server:
        house = House(server)
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            machine(house),
            settings=settings(max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)),
        )
        assert house.executed  # else all of this was about refusals
