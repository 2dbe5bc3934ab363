"""What is asked of policies beside requests: pieces, situations, classes, differences, and the way back."""

from __future__ import annotations

import ipaddress
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyclave.core.errors import Malformed
from keyclave.identity.roles import Role
from keyclave.operations.revisions import kinds
from keyclave.operations.table import OPERATIONS
from keyclave.policy import cedar
from keyclave.policy.bundle import checked_bundle, standard
from keyclave.policy.difference import compare, policy_changes, rule_changes
from keyclave.policy.engine import Compiled, Compiler
from keyclave.policy.lockout import Holder, way_back
from keyclave.policy.reach import TENANT, Lens, Subject, Target, classes, question, right, that_matter
from keyclave.policy.read_rules import read_rules
from keyclave.policy.situations import MOST, Situation, addresses, read_by

pytestmark = [pytest.mark.requirement("R31"), pytest.mark.requirement("R10")]
COMPILER = Compiler(kinds(OPERATIONS))
OVER = {name: kind.over for name, kind in COMPILER.kinds.items()}
T = "ten_a"


def compiled(text: str = "", rules: str = "", people: str = "tokens") -> Compiled:
    files = dict(standard(people=people).files)
    files["more.cedar"] = text
    files["rules.toml"] += rules
    return COMPILER.compile(checked_bundle(files))


def person(name: str, duty: Role = Role.OPERATOR, *roles: str) -> Subject:
    return Subject(name=name, person=True, duty=duty, roles=roles)


def key(name: str, **tags: str) -> Target:
    named = ("spec", "purpose", "owner", "environment", "classification", "location")
    return Target(id=name, described={"name": name, **dict.fromkeys(named, "x")}, tags=tags)


# ---- reading in pieces ----------------------------------------------------------------------------------------------------
def test_a_text_is_read_in_pieces_like_as_a_whole() -> None:
    tricky = [
        '@id("p0") permit (principal, action == Action::"seal", resource) when { context.how == "a;b" };',
        '// a comment; with a semicolon and a "quote\n@id("p1") permit (principal, action == Action::"seal", resource);',
        '@id("p2") permit (principal, action == Action::"seal", resource) when { context.how == "\\"; // \\"" };',
    ]
    lines = [tricky[i % 3].replace(f'"p{i % 3}"', f'"p{i}"') for i in range(190)]
    text = "\n".join(lines)
    pieces = cedar._pieces(text)
    assert len(pieces) > 4 and "".join(piece for _, piece in pieces) == text
    assert [text[: text.index(piece)].count("\n") + 1 for _, piece in pieces if piece] == [
        line for line, piece in pieces if piece
    ]
    assert [policy.id for policy in cedar.read_policies({"a.cedar": text}, COMPILER.kinds)] == [f"p{i}" for i in range(190)]


@pytest.mark.parametrize(
    "end",
    ['when { context.how == "open };', "when { true", "// only a comment; here", "};", "permit (principal; action, resource);"],
)
def test_what_is_no_cedar_as_a_whole_is_none_in_pieces(end: str) -> None:
    head = "\n".join(f'@id("p{i}") permit (principal, action == Action::"seal", resource);' for i in range(60))
    broken = f'{head}\n@id("last") permit (principal, action == Action::"seal", resource) {end}'
    with pytest.raises(Malformed, match=r"a\.cedar"):
        cedar.read_policies({"a.cedar": broken}, COMPILER.kinds)


@pytest.mark.parametrize("scope", ["", ' == Action::"seal"', ' in [Action::"use", Action::"rotate"]', ' in Action::"read"'])
@pytest.mark.parametrize(
    "condition",
    ["context.aal > 1", "context.missing > 1", 'action == Action::"rotate"', 'action in Action::"manage"', 'action in Action::"no"',
     'resource.name == "x"', 'resource is Key && resource.name == "x"', 'principal.duty == 1', 'principal in Role::"x"', "1 < true",
     'resource in Tag::"a=b"', "context has aal", 'context.networks.contains(Role::"x")'],
)  # fmt: skip
def test_narrow_schemas_find_what_the_whole_one_finds(scope: str, condition: str) -> None:
    text = f'@id("a") permit (principal, action{scope}, resource) when {{ {condition} }};'
    policies = cedar.read_policies({"a.cedar": text}, COMPILER.kinds)
    whole = set(cedar._findings(policies, COMPILER.schema))
    assert set(cedar.validate(policies, COMPILER.schema, COMPILER.kinds)) == whole  # their order is not fixed


# ---- slices ---------------------------------------------------------------------------------------------------------------
def test_policies_that_each_name_operations_of_their_own_are_still_decided_exactly() -> None:
    rolling = random.Random(3)
    uses = sorted(name for name, kind in COMPILER.kinds.items() if kind.group == "use" and kind.on_key)
    moves = sorted(name for name, kind in COMPILER.kinds.items() if kind.group == "manage" and kind.on_key)
    lines = []
    for number in range(400):
        named = ", ".join(f'Action::"{action}"' for action in rolling.sample(uses + moves, 14))
        kind = "forbid" if number % 3 == 0 else "permit"
        lines.append(
            f'@id("p{number}") {kind} (principal, action in [{named}], resource) when {{ resource.owner == "o{number % 50}" }};'
        )
    one = compiled("\n".join(lines))
    asked = sum(len(sets) for sets in one._slices.values())
    assert asked < 12 * len(COMPILER.kinds)  # a set for each policy and operation would be thousands
    for number in range(60):
        action, owner = rolling.choice(uses + moves), f"o{number % 50}"
        which = Target(id="k", described={**key("k").described, "owner": owner})
        found = one.decide(question(one, T, action, person("x", Role.PERSON), which, Situation()))
        expected = {n for n, line in enumerate(lines) if f'Action::"{action}"' in line and f'"{owner}"' in line}
        assert set(found.permits + found.forbids) <= {f"p{n}" for n in expected} and not found.errors
        forbidden = {f"p{n}" for n in expected if n % 3 == 0}
        assert set(found.forbids) == forbidden and (bool(expected - {int(f[1:]) for f in forbidden}) or not found.permits)
        assert found.allowed is (bool(expected) and not forbidden)


# ---- rules ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('[roles.a]\nduty = "operator"\nparents = ["b"]\n[roles.b]\nduty = "operator"\nparents = ["a"]', "nested in itself"),
        ('[roles.a]\nduty = "operator"\nparents = ["a"]', "nested in itself"),
        ('[roles.a]\nduty = "operator"\nparents = ["custodian"]', "two duties"),
        ('[roles.custodian]\nduty = "operator"', "Keyclave's own"),
        ('[roles.a]\nduty = "king"', "king"),
        ("[assurance]\ncustodian = 4", "custodian"),
        ("[surprise]\nx = 1", "surprise"),
        ('[networks]\nward = ["10.0.0.0/33"]', "address block"),
        ('[[sensitive]]\noperations = ["fly"]', "fly"),
        (
            '[[sensitive]]\noperations = ["destroy"]\nroles = ["auditor"]\n'
            '[[sensitive]]\noperations = ["destroy"]\nroles = ["operator"]',
            "no role in common",
        ),
    ],
)
def test_rules_that_cannot_hold_are_refused(text: str, match: str) -> None:
    with pytest.raises(Malformed, match=match):
        read_rules(text, OVER)


def test_the_last_approver_of_policy_changes_cannot_be_ruled_away() -> None:
    rule = read_rules("", OVER).approval("policy-apply")
    assert rule is not None and rule.count == 1 and set(rule.roles) == {"custodian", "operator", "auditor"}


# ---- situations -----------------------------------------------------------------------------------------------------------
def test_only_what_policies_read_is_varied() -> None:
    one = compiled('@id("a") forbid (principal, action == Action::"seal", resource) when { context.aal < 2 };')
    asked = that_matter("seal", person("x"), (one,))
    assert asked.names == ("aal",) and [situation.aal for situation in asked.all] == [3, 2, 1]
    assert that_matter("rotate", person("x"), (one,)).names == ()


def test_a_policy_that_takes_the_context_whole_reads_all_of_it() -> None:
    whole = '@id("a") forbid (principal, action == Action::"seal", resource) when { [context].contains(context) };'
    policies = cedar.read_policies({"a.cedar": whole}, COMPILER.kinds)
    assert read_by(policies) >= {"aal", "networks", "purpose", "granted"}


def test_too_many_combinations_are_said_to_be() -> None:
    text = (
        '@id("a") forbid (principal, action == Action::"seal", resource) when { context.aal < 2 && context.fresh && '
        'context.elevated && context.how == "x" && context.plane == "data" && context.purpose == "y" };'
    )
    asked = that_matter("seal", person("x"), (compiled(text),))
    assert not asked.complete and len(asked.all) <= MOST
    assert "in some combinations" in asked.describe(asked.all[:1], compiled()) or "when" in asked.describe(
        asked.all[:1], compiled()
    )


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(4, 8)), max_size=6))
@settings(max_examples=100, deadline=None)
def test_every_combination_of_networks_has_an_address(blocks: list[tuple[int, int]]) -> None:
    named = {f"n{i}": [f"10.0.0.{number & (0xFF << (8 - bits)) & 0xFF}/{24 + bits}"] for i, (number, bits) in enumerate(blocks)}
    rules = "\n[networks]\n" + "\n".join(f"{name} = {value}".replace("'", '"') for name, value in named.items())
    one = compiled(rules=rules)
    parsed = [(name, [ipaddress.ip_network(b) for b in each]) for name, each in named.items()]

    def inside(address: str) -> frozenset[str]:
        here = ipaddress.ip_address(address)
        return frozenset(name for name, each in parsed if any(here in block for block in each))

    every = {inside(f"10.0.0.{last}") for last in range(256)}
    tried = {inside(address) for address in addresses((one,)) if address} | {frozenset()}
    assert every <= tried


# ---- classes and differences ----------------------------------------------------------------------------------------------
def test_policies_tell_apart_no_more_than_they_say() -> None:
    one = compiled(
        '@id("a") forbid (principal == Person::"ada", action == Action::"rotate", resource in Tag::"ward=3") '
        'when { resource.owner == "x" };'
    )
    lens = Lens((one,))
    people = [person("ada"), person("ben"), person("cy"), person("di", Role.OPERATOR, "night"), person("ed", Role.AUDITOR)]
    assert [[s.name for s in group] for group in classes(lens, people)] == [["ada"], ["ben", "cy"], ["di"], ["ed"]]
    same = Target(id="k1", described={"name": "a", "owner": "x"}, tags={"app": "1"})
    other = Target(id="k2", described={"name": "b", "owner": "x"}, tags={"app": "2"})
    assert lens.target(same) == lens.target(other)
    assert lens.target(same) != lens.target(Target(id="k3", described={"name": "a", "owner": "y"}))
    assert lens.target(same) != lens.target(Target(id="k4", described={"name": "a", "owner": "x"}, tags={"ward": "3"}))


def test_meaning_is_compared_and_not_text() -> None:
    text = '@id("a") permit (principal in Role::"operator", action == Action::"seal", resource) when { context.aal > 1 };'
    spaced = "// why\n" + text.replace(" when", "\n\n  when")
    assert policy_changes(compiled(text), compiled(spaced)).all() == set()
    found = policy_changes(compiled(text), compiled(text.replace("> 1", "> 2").replace('"a"', '"b"')))
    assert (found.added, found.removed, found.changed) == (["b"], ["a"], [])
    assert policy_changes(compiled(text), compiled(text.replace("> 1", "> 2"))).changed == ["a"]


def test_rules_are_compared_place_by_place() -> None:
    before, after = compiled().rules, compiled(rules='\n[networks]\nward = ["10.0.0.0/8"]\n').rules
    assert [(one.place, one.before, one.after) for one in rule_changes(before, after)] == [
        ("networks", {}, None), ("networks.ward", None, ["10.0.0.0/8"])
    ]  # fmt: skip


def test_who_gains_and_who_loses() -> None:
    before = compiled('@id("a") forbid (principal, action == Action::"rotate", resource in Tag::"ward=3");')
    after = compiled(
        '@id("b") forbid (principal, action == Action::"rotate", resource in Tag::"ward=4") when { context.aal < 3 };'
    )
    keys = [key(f"k{n}", ward=n) for n in ("3", "4", "5")]
    found = compare(before, after, T, [person(f"p{i}") for i in range(30)], keys)
    assert [(c.effect, c.operations, c.keys, c.principal_count, c.where) for c in found.changes] == [
        ("gains", ["rotate"], ["k3"], 30, "always"),
        ("loses", ["rotate"], ["k4"], 30, "when aal 1 or 2"),
    ]
    assert found.left_out == 0


def test_a_condition_on_the_context_is_a_difference() -> None:
    text = '@id("a") @context("ward={}") permit (principal in Role::"application", action == Action::"encrypt", resource);'
    app = Subject(name="app", person=False, duty=Role.APPLICATION)
    found = compare(compiled(text.format("1")), compiled(text.format("2")), T, [app], [key("k")])
    assert {one.effect for one in found.changes} == {"changes"}


# ---- the way back ---------------------------------------------------------------------------------------------------------
def holders(*people: tuple[str, Role, int, int]) -> list[Holder]:
    return [Holder(subject=person(name, duty), aal=aal, signs=signs) for name, duty, aal, signs in people]


CUST, OPER, AUDI = Role.CUSTODIAN, Role.OPERATOR, Role.AUDITOR


@pytest.mark.parametrize(
    ("people", "here", "open_"),
    [
        ("tokens", [("c", CUST, 1, 0), ("o", OPER, 1, 3)], True),
        ("tokens", [("c", CUST, 1, 3), ("o", OPER, 1, 0)], True),
        ("tokens", [("c", CUST, 1, 3)], False),  # nobody but the requester signs
        ("tokens", [("c", CUST, 1, 0), ("o", OPER, 1, 0)], False),
        ("tokens", [("a", AUDI, 3, 3), ("b", AUDI, 3, 3)], False),  # auditors do not ask for it
        ("passkeys", [("c", CUST, 1, 3), ("o", OPER, 1, 3)], False),  # nobody can prove enough
        ("passkeys", [("c", CUST, 3, 3), ("o", OPER, 2, 3)], True),
        ("passkeys", [("c", CUST, 3, 0), ("o", OPER, 2, 1)], False),  # what they would sign with proves too little
        ("passkeys", [("c", CUST, 3, 3), ("o", OPER, 2, 2)], False),  # a synced passkey approves no change of the policy
        ("passkeys", [("c", CUST, 2, 2), ("o", AUDI, 3, 3)], False),  # nor asks for one
        ("tokens", [], False),
    ],
)
def test_the_way_back(people: str, here: list[Any], open_: bool) -> None:
    assert (way_back(compiled(people=people), T, holders(*here)) == "") is open_


def test_one_circumstance_that_permits_is_enough() -> None:
    here = holders(("c", CUST, 1, 3), ("o", OPER, 1, 3))
    only = '@id("a") forbid (principal, action == Action::"policy-apply", resource) unless {{ {} }};'
    inside = only.format('context.networks.contains(Network::"office")')
    assert way_back(compiled(inside), T, here)  # no such network
    assert not way_back(compiled(inside, '\n[networks]\noffice = ["10.1.0.0/16"]\n'), T, here)
    assert way_back(compiled(only.format("context.aal > 1")), T, here)  # the best they can prove is 1
    assert way_back(compiled(only.format('principal == Person::"nobody"')), T, here)


def test_an_approver_must_be_able_to_approve() -> None:
    here = holders(("c", CUST, 1, 0), ("o", OPER, 1, 3))
    if "approval-sign" in COMPILER.kinds:
        assert way_back(compiled('@id("a") forbid (principal, action == Action::"approval-sign", resource);'), T, here)


def test_a_right_is_what_requests_would_find() -> None:
    one = compiled()
    assert right(one, T, "rotate", person("o"), key("k"), that_matter("rotate", person("o"), (one,)).all[0]) == {()}
    assert right(one, T, "encrypt", person("o"), key("k"), that_matter("encrypt", person("o"), (one,)).all[0]) is None
    assert right(one, T, "log-read", person("a", Role.AUDITOR), TENANT, that_matter("log-read", person("a"), (one,)).all[0]) == {
        ()
    }
