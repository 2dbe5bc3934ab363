"""Rules that keep duties apart, over random tables and histories: one more never permits more, one less never refuses more, nobody
stands on both sides; and M distinct approvers are still M people, each on no first side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from keyclave.approvals.counting import Approver, tally
from keyclave.approvals.request import Rule
from keyclave.identity.roles import Role
from keyclave.policy.apart import LEAST_APART, SELF, Act, Apart, in_force, stands_first
from keyclave.policy.rules import Exclusive, RoleRule, Rules, excluded
from tests.approvals.test_rules_now import Ward
from tests.protocols.inside import inside

pytestmark = pytest.mark.requirement("P3", "R15", "R16", "R31")
ACTS = ("key-create", "suspend", "resume", "deactivate", "schedule-destruction", "cancel-destruction", "destroy")
PEOPLE = ("ada", "ben", "cy")
names = st.lists(st.sampled_from(ACTS), min_size=1, max_size=3, unique=True).map(tuple)


@st.composite
def tables(draw: st.DrawFn) -> list[Apart]:
    """Draw rules over keys, and over people with `self` among the first acts."""
    found = []
    for _ in range(draw(st.integers(0, 4))):
        first = draw(names)
        undone = tuple(name for name in draw(st.lists(st.sampled_from(ACTS), max_size=2)) if name not in first)
        over = draw(st.sampled_from(["key", "key-version", "person"]))
        first = (*first, SELF) if over == "person" and draw(st.booleans()) else first
        found.append(Apart(first=first, then=draw(names), approve=draw(names), over=over, undone_by=undone))
    return found


histories = st.lists(st.builds(Act, st.sampled_from(ACTS), st.sampled_from(PEOPLE)), max_size=12)


def refused(rules: list[Apart], history: list[Act], subject: str, who: str, act: str, side: str) -> bool:
    """Tell whether somebody is kept from an act, or from approving it, over one thing."""
    return any(act in getattr(rule, side) and stands_first(rule, history, subject, who) for rule in in_force(rules))


@given(tables(), histories, st.sampled_from(PEOPLE), st.sampled_from(PEOPLE), st.sampled_from(ACTS), st.data())
@settings(max_examples=400, deadline=None)
def test_one_rule_more_permits_no_more_and_one_less_refuses_no_more(
    rules: list[Apart], history: list[Act], subject: str, who: str, act: str, data: st.DataObject
) -> None:
    extra = data.draw(tables())
    for side in ("then", "approve"):
        now = refused(rules, history, subject, who, act, side)
        more = refused([*rules, *extra], history, subject, who, act, side)
        assert more >= now
        kept = [rule for rule in rules if data.draw(st.booleans())]
        assert refused(kept, history, subject, who, act, side) <= now
        event(f"{side}: {now}")


@given(tables(), histories, st.sampled_from(PEOPLE))
@settings(max_examples=400, deadline=None)
def test_nobody_comes_to_stand_on_both_sides(rules: list[Apart], wanted: list[Act], subject: str) -> None:
    """Whatever people try in whatever order, what is done shows no rule broken, as an independent reader of the history sees it."""
    done: list[Act] = []
    for act in wanted:
        if not refused(rules, done, subject, act.principal, act.action, "then"):
            done.append(act)
    for rule in in_force(rules):
        for place, act in enumerate(done):
            if act.action not in rule.then:
                continue
            assert not (SELF in rule.first and act.principal == subject)
            since = max((n for n in range(place) if done[n].action in rule.undone_by), default=-1)
            before = done[since + 1 : place]
            assert not [one for one in before if one.principal == act.principal and one.action in rule.first]


@given(tables(), histories, st.lists(st.sampled_from(PEOPLE), max_size=6), st.integers(1, 3), st.sampled_from(PEOPLE))
@settings(max_examples=400, deadline=None)
def test_enough_is_that_many_people_whom_nothing_keeps_from_approving(
    rules: list[Apart], history: list[Act], signed: list[str], count: int, requester: str
) -> None:
    asked = [Act("approval-request", requester)]

    def why(who: str) -> str:
        itself = any("approval-sign" in rule.then and stands_first(rule, asked, "apr", who) for rule in in_force(rules))
        return "apart" if itself or refused(rules, history, "key", who, "destroy", "approve") else ""

    approvers = [
        Approver(
            name=who,
            roles=frozenset(("custodian",)),
            enabled=True,
            authenticator_live=True,
            aal=3,
            signature_holds=True,
            apart=why(who),
        )
        for who in signed
    ]
    counted = tally(approvers, (Rule(assurance=3, count=count, hours=1, roles=("custodian",)),))
    assert len(set(counted.counted)) == len(counted.counted)
    assert requester not in counted.counted
    assert counted.enough == (len({who for who in signed if not why(who)}) >= count)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    with inside(tmp_path_factory.mktemp("apart")) as made:
        yield Ward(made)


CUSTODIANS = ("custodian", "second", "third")
OPERATORS = ("operator", "night")
VERBS = ("suspend", "deactivate", "schedule-destruction", "cancel-destruction", "destroy")
steps = st.lists(
    st.tuples(st.sampled_from([*VERBS, "destroy", "schedule-destruction"]), st.sampled_from([*CUSTODIANS, *OPERATORS])),
    min_size=1, max_size=6,
)  # fmt: skip
kept_apart = st.lists(
    st.tuples(
        st.lists(st.sampled_from([*VERBS[:3], "key-create"]), min_size=1, max_size=2, unique=True),
        st.lists(st.sampled_from(VERBS[2:]), min_size=1, max_size=2, unique=True),
        st.sampled_from(["key", "key-version"]),
        st.booleans(),
    ),
    max_size=2,
)  # fmt: skip


@given(kept_apart, steps, st.sampled_from(CUSTODIANS), st.sampled_from(CUSTODIANS))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_server_keeps_apart_what_the_rules_do(
    server: Ward, table: list[tuple[list[str], list[str], str, bool]], wanted: list[tuple[str, str]], maker: str, scheduler: str
) -> None:
    """The same over the whole way: rules by the bundle, acts by requests, destructions by approvals; a model reads what was done."""
    rules = [
        Apart(first=tuple(first), over=over, **{"approve" if approving else "then": tuple(then)})  # type: ignore[arg-type]
        for first, then, over, approving in table
    ]
    server.rules(more="".join(_text(rule) for rule in rules))
    key = f"apart-{next(_numbers)}"
    assert server.send("/v1/keys", "", maker, {"name": key, "owner": "o"})[0] == 201
    done = [Act("key-create", server_name(server, maker))]
    for verb, who in [("deactivate", "operator"), ("schedule-destruction", scheduler), *wanted]:
        name = server_name(server, who)
        approvers = _do(server, key, verb, who)
        if approvers is None:
            continue
        assert not refused(rules, done, "", name, verb, "then")
        assert not any(refused(rules, done, "", server_name(server, one), verb, "approve") for one in approvers)
        assert verb != "destroy" or (len(set(approvers)) >= 2 and who not in approvers)
        done.append(Act(verb, name))
        event(f"done: {verb}")
        _destroyed.extend(approvers)
    server.rules()


_numbers = iter(range(10**6))
_destroyed: list[str] = []


def server_name(server: Ward, who: str) -> str:
    return str(server.server.desk.callers.authenticate(server.tokens[who].encode()).principal)


def _text(rule: Apart) -> str:
    lines = [f"{name} = {json.dumps(value)}" for name, value in msgspec.to_builtins(rule).items() if value]
    return "\n[[apart]]\n" + "\n".join(lines) + "\n"


def _do(server: Ward, key: str, verb: str, who: str) -> list[str] | None:
    """Try an act; return who approved it (nobody, where it waits for nobody), or None where it was refused."""
    body: dict[str, Any] = {"version": 1, "reason": "over"} | ({"days": 0} if verb == "schedule-destruction" else {})
    if verb != "destroy":
        return [] if server.send(f"/v1/keys/{{key}}/{verb}", key, who, body)[0] == 200 else None
    asked = {"operation": "destroy", "ref": key, "request": body, "reason": "over"}
    status, made = server.send("/v1/approvals", "", who, asked)
    if status != 201:
        return None
    signed = [one for one in (*CUSTODIANS, *OPERATORS) if server.sign(made["id"], one)[0] == 200]
    status, answer = server.send("/v1/approvals/{approval}/execute", made["id"], who, {})
    return signed if status == 200 and answer["results"][0].get("error") is None else None


def test_some_of_these_histories_ended_in_a_destruction() -> None:
    """Else all of it was about refusals. It stands behind what it looks at."""
    assert _destroyed
    assert set(LEAST_APART) <= set(in_force([]))


ROLE_NAMES = ("custodian", "operator", "auditor", "person", "share-holder", "backup-operator", "night-shift")
some_roles = st.frozensets(st.sampled_from(ROLE_NAMES))
some_exclusive = st.lists(
    st.lists(
        st.sampled_from(("custodian", "operator", "share-holder", "backup-operator", "night-shift")), min_size=2, unique=True
    ),
    max_size=4,
)


@pytest.mark.requirement("R10", "R15")
@given(some_exclusive, some_exclusive, some_roles, some_roles)
def test_one_more_role_share_or_rule_never_makes_two_go_together(
    rules: list[list[str]], more: list[list[str]], held: frozenset[str], taken_on: frozenset[str]
) -> None:
    """Exclusions only add up, over holders of shares too: what is refused with less is refused with more."""
    made = {name: RoleRule(duty=Role.OPERATOR) for name in ("backup-operator", "night-shift")}
    few = Rules(roles=made, exclusive=tuple(Exclusive(roles=tuple(one)) for one in rules))
    many = Rules(roles=made, exclusive=tuple(Exclusive(roles=tuple(one)) for one in (*rules, *more)))
    if excluded(few, held) is not None:
        assert excluded(many, held) is not None
        assert excluded(few, held | taken_on) is not None
