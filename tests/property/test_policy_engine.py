"""Slices and sets decide like the whole; a plain evaluator agrees; taking a right away never gives one."""

from __future__ import annotations

import json
from dataclasses import dataclass

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyclave.operations.revisions import kinds
from keyclave.operations.table import OPERATIONS
from keyclave.policy import engine
from keyclave.policy.bundle import checked_bundle
from keyclave.policy.engine import Compiled, Compiler, Question

COMPILER = Compiler(kinds(OPERATIONS))
USES = ["encrypt", "decrypt", "sign", "rotate", "key-read"]
ROLES = ["application", "custodian", "ward", "pharmacy"]


@dataclass(frozen=True)
class Made:
    """A policy of a small family that a few lines of Python evaluate too."""

    permit: bool
    role: str | None
    actions: tuple[str, ...]
    tag: str | None
    aal: int
    purpose: str | None

    def cedar(self, name: str) -> str:
        who = "principal" if self.role is None else f'principal in Role::"{self.role}"'
        what = ", ".join(f'Action::"{action}"' for action in self.actions)
        which = "resource" if self.tag is None else f'resource in Tag::"ward={self.tag}"'
        also = f"context.aal >= {self.aal}" + ("" if self.purpose is None else f' && context.purpose == "{self.purpose}"')
        kind = "permit" if self.permit else "forbid"
        return f'@id("{name}") {kind}({who}, action in [{what}], {which}) when {{ {also} }};'

    def holds(self, q: Question) -> bool:
        return (
            (self.role is None or self.role in q.roles)
            and q.action in self.actions
            and (self.tag is None or q.tags.get("ward") == self.tag)
            and q.aal >= self.aal
            and self.purpose in (None, q.purpose)
        )


POLICIES = st.lists(
    st.builds(
        Made, st.booleans(), st.sampled_from([None, *ROLES]), st.lists(st.sampled_from(USES), min_size=1, max_size=5, unique=True).map(tuple),
        st.sampled_from([None, "1", "2"]), st.integers(1, 3), st.sampled_from([None, "treatment", "research"]),
    ),
    max_size=24,
)  # fmt: skip
QUESTIONS = st.builds(
    lambda action, roles, tag, aal, purpose, granted: Question(
        tenant="t", principal="p", person=True, duty="operator", roles=frozenset(roles), action=action, aal=aal, elevated=False,
        fresh=False, granted=granted, how="", networks=frozenset(), plane="both", purpose=purpose, key_id="k",
        key=dict.fromkeys(("name", "spec", "purpose", "owner", "environment", "classification", "location"), "x"),
        tags={"ward": tag},
    ),
    st.sampled_from(USES), st.sets(st.sampled_from(ROLES)), st.sampled_from(["1", "2", "3"]), st.integers(1, 3),
    st.sampled_from(["", "treatment", "research"]), st.booleans(),
)  # fmt: skip


def compiled(policies: list[Made]) -> Compiled:
    text = "\n".join(policy.cedar(f"p{i}") for i, policy in enumerate(policies))
    return COMPILER.compile(checked_bundle({"all.cedar": text, "rules.toml": ""}))


def by_the_whole(made: Compiled, q: Question) -> bool:
    """Ask Cedar with every policy in one set."""
    static = {policy.id: policy.tree() for policy in made.policies.values()}
    whole = cedarpy.PolicySet.from_json_str(json.dumps({"staticPolicies": static, "templates": {}, "templateLinks": []}))
    request, entities = engine._request(q)
    answer = cedarpy.is_authorized(request, whole, entities, schema=COMPILER.schema)
    return answer.allowed and not answer.diagnostics.errors


def plainly(policies: list[Made], q: Question) -> bool:
    holding = [policy for policy in policies if policy.holds(q)]
    granted = q.granted and q.action in ("encrypt", "decrypt", "sign", "key-read")
    return (granted or any(p.permit for p in holding)) and all(p.permit for p in holding)


@pytest.mark.requirement("R15")
@settings(max_examples=60)
@given(POLICIES, st.lists(QUESTIONS, min_size=1, max_size=12))
def test_slices_decide_like_the_whole_and_like_plain_code(policies: list[Made], questions: list[Question]) -> None:
    made = compiled(policies)
    for q in questions:
        verdict = made.decide(q).allowed
        assert verdict == by_the_whole(made, q) == plainly(policies, q)


@pytest.mark.requirement("R15")
@settings(max_examples=60)
@given(POLICIES, st.lists(QUESTIONS, min_size=1, max_size=12), st.data())
def test_taking_a_right_away_never_gives_one(policies: list[Made], questions: list[Question], data: st.DataObject) -> None:
    permits = [i for i, policy in enumerate(policies) if policy.permit]
    gone = data.draw(st.sampled_from(permits)) if permits else None
    fewer = compiled([policy for i, policy in enumerate(policies) if i != gone])
    made = compiled(policies)
    for q in questions:
        if fewer.decide(q).allowed:
            assert made.decide(q).allowed  # without a permit
        without = Question(**{**{name: getattr(q, name) for name in q.__struct_fields__}, "granted": False})
        if made.decide(without).allowed:
            assert made.decide(q.granting()).allowed  # without a scope or grant


def test_many_small_groups_and_large_ones_share_sets() -> None:
    """More than one set to a slice, groups of every size, and the same answers."""
    policies = [Made(i % 7 != 0, ROLES[i % 4], tuple(USES[: 1 + i % 5]), None, 1, None) for i in range(260)]
    made = compiled(policies)
    assert max(len(sets) for sets in made._slices.values()) > 2
    for action in USES:
        for role in ROLES:
            q = Question(
                tenant="t", principal="p", person=True, duty="operator", roles=frozenset({role}), action=action, aal=2,
                elevated=False, fresh=False, granted=False, how="", networks=frozenset(), plane="both", purpose="", key_id="k",
                key=dict.fromkeys(("name", "spec", "purpose", "owner", "environment", "classification", "location"), "x"),
            )  # fmt: skip
            assert made.decide(q).allowed == plainly(policies, q)
