"""The engine: an error is a denial, a forbid wins, a condition on the context is read from its annotation, a bad bundle is refused."""

from __future__ import annotations

import pytest

from keyclave.core.errors import Malformed, TooLarge
from keyclave.operations.revisions import kinds
from keyclave.operations.table import OPERATIONS
from keyclave.policy.bundle import Bundle, checked_bundle, standard
from keyclave.policy.decision import Alternative
from keyclave.policy.duties import DUTIES
from keyclave.policy.engine import Compiled, Compiler, Question
from keyclave.policy.read_rules import read_rules
from keyclave.policy.rules import excluded

COMPILER = Compiler(kinds(OPERATIONS))
NAMES = {name: kind.over for name, kind in COMPILER.kinds.items()}


def compiled(cedar: str, rules: str = "") -> Compiled:
    return COMPILER.compile(checked_bundle({"a.cedar": cedar, "rules.toml": rules}))


def question(action: str = "encrypt", **more: object) -> Question:
    asked: dict[str, object] = {
        "tenant": "ten_1", "principal": "app", "person": False, "duty": "application", "roles": frozenset({"application"}),
        "action": action, "aal": 1, "elevated": False, "fresh": False, "granted": False, "how": "", "networks": frozenset(),
        "plane": "both", "purpose": "", "key_id": "key_1", "tags": {"ward": "3"},
        "key": dict.fromkeys(("name", "spec", "purpose", "owner", "environment", "classification", "location"), "x"),
    }  # fmt: skip
    return Question(**{**asked, **more})  # type: ignore[arg-type]


@pytest.mark.requirement("R15")
def test_nothing_is_permitted_by_default() -> None:
    empty = compiled("")
    for action in NAMES:
        key = {} if COMPILER.kinds[action].on_key else {"key_id": "", "key": {}, "tags": {}}
        assert not empty.decide(question(action, **key)).allowed


@pytest.mark.requirement("R15")
def test_scope_or_grant_permits_uses_and_a_forbid_wins_over_it() -> None:
    assert compiled("").decide(question(granted=True)).permits == ("built-in",)
    night = compiled('@id("no") forbid(principal, action == Action::"encrypt", resource in Tag::"ward=3");')
    refused = night.decide(question(granted=True))
    assert (refused.allowed, refused.forbids) == (False, ("no",))
    assert night.decide(question(granted=True, tags={"ward": "4"})).allowed
    assert night.decide(question("decrypt", granted=True)).allowed


@pytest.mark.requirement("R15")
def test_a_policy_that_errs_denies_instead_of_being_skipped() -> None:
    """Cedar leaves out a policy that errs: a `forbid` left out would permit. An overflow errs and passes the validator."""
    trap = compiled(
        '@id("yes") permit(principal, action == Action::"encrypt", resource);\n'
        '@id("trap") forbid(principal, action == Action::"encrypt", resource) when { context.aal * 9223372036854775807 < 0 };'
    )
    assert trap.decide(question(aal=1)).permits == ("yes",)
    erring = trap.decide(question(aal=3))
    assert erring.permits == ("yes",) and erring.errors and not erring.allowed


@pytest.mark.requirement("R15")
@pytest.mark.parametrize(
    "condition",
    ["context.approvals < 2", "context has approvals && context.approvals < 2", "resource.missing == 1", "principal.age > 3",
     'context.networks.contains("ward")', "context.aal == true", 'resource.name < 3', "unknown_function(1)"],
)  # fmt: skip
def test_what_does_not_fit_the_schema_is_refused_when_it_is_read(condition: str) -> None:
    with pytest.raises(Malformed):
        compiled(f'@id("a") forbid(principal, action == Action::"encrypt", resource) when {{ {condition} }};')


@pytest.mark.requirement("R15")
@pytest.mark.parametrize(
    "cedar",
    [
        "permit(principal, action, resource);",  # no id
        '@id("built-in") permit(principal, action, resource);',
        '@id("a b") permit(principal, action, resource);',
        '@id("a") permit(principal, action, resource); @id("a") permit(principal, action, resource);',
        '@id("a") permit(principal, action == Action::"fly", resource);',
        '@id("a") permit(principal == ?principal, action, resource);',
        '@id("a") forbid(principal, action, resource) when { context.granted };',
        '@id("a") forbid(principal, action, resource) unless { context["granted"] };',
        '@id("a") permit(principal, action, resource) when { context has granted };',
        '@id("a") @context("ward=a") forbid(principal, action, resource);',
        '@id("a") @context("ward") permit(principal, action, resource);',
        '@id("a") @context("ward=a;ward=b") permit(principal, action, resource);',
        '@id("a") @context("ward=") permit(principal, action, resource);',
        "permit(",
    ],
)
def test_a_policy_that_breaks_a_rule_is_refused(cedar: str) -> None:
    with pytest.raises(Malformed):
        compiled(cedar)


def test_a_context_condition_is_read_with_its_escapes() -> None:
    made = compiled('@id("a") @context("ward=a%3Bb|c; patient=*") permit(principal, action == Action::"encrypt", resource);')
    right = Alternative(context=made.policies["a"].context)
    assert right.admits({"ward": "a;b", "patient": "p"}) and right.admits({"ward": "c", "patient": "p", "more": "x"})
    assert right.unmet({"ward": "a", "patient": "p"}) == "ward" and right.unmet({"ward": "c"}) == "patient"


@pytest.mark.requirement("R15", "R10")
@pytest.mark.parametrize("people", ["passkeys", "tokens"])
def test_the_standard_bundle_is_valid_and_gives_each_duty_its_duties(people: str) -> None:
    made = COMPILER.compile(standard(people=people))
    for action, roles in DUTIES.items():
        key = {} if COMPILER.kinds[action].on_key else {"key_id": "", "key": {}, "tags": {}}
        for duty in ("custodian", "operator", "auditor"):
            if duty in [role.value for role in roles]:
                asked = question(action, person=True, duty=duty, roles=frozenset({duty}), principal="p", aal=2, **key)
                assert made.decide(asked).allowed, (action, duty)
    assert made.rules.approval("destroy") is not None and made.rules.approval("destroy").count == 2  # type: ignore[union-attr]
    assert made.rules.assurance.custodian == (2 if people == "passkeys" else 1)


@pytest.mark.requirement("R10")
def test_role_loops_and_mixed_duties_are_refused() -> None:
    for rules in [
        '[roles.a]\nduty="operator"\nparents=["a"]',
        '[roles.a]\nduty="operator"\nparents=["b"]\n[roles.b]\nduty="operator"\nparents=["a"]',
        '[roles.a]\nduty="operator"\nparents=["custodian"]',
        '[roles.a]\nduty="operator"\nparents=["nobody"]',
        '[roles.operator]\nduty="operator"',
        '[roles.a]\nduty="emperor"',
        "nonsense = 1",
        '[[sensitive]]\noperations=["fly"]',
        '[[sensitive]]\noperations=["destroy"]\nroles=["nobody"]',
        '[[sensitive]]\noperations=["destroy"]\ncount=0',
        '[networks]\nward=["10.0.0.0/33"]',
        "assurance = 3",
        "[assurance]\ncustodian = 4",
        '[[exclusive]]\nroles=["operator"]',
    ]:
        with pytest.raises(Malformed):
            read_rules(rules, NAMES)


@pytest.mark.requirement("R10")
def test_two_duties_never_meet_and_rules_can_only_add_to_that() -> None:
    rules = read_rules(
        '[roles.ward]\nduty="operator"\n[roles.backup]\nduty="operator"\nparents=["ward"]\n'
        '[roles.share]\nduty="operator"\n[[exclusive]]\nroles=["share","ward"]\nwhy="split knowledge"',
        NAMES,
    )
    assert excluded(rules, frozenset({"operator", "backup"})) is None
    assert excluded(rules, frozenset({"operator", "auditor"})) is not None
    assert excluded(rules, frozenset({"backup", "custodian"})) is not None  # a custom role is of its duty
    assert excluded(rules, frozenset({"backup", "share"})) == ("share", "ward", "split knowledge")  # by way of its parent


@pytest.mark.requirement("R31")
def test_rules_for_one_operation_hold_together() -> None:
    rules = read_rules(
        '[[sensitive]]\noperations=["destroy"]\ncount=1\nroles=["operator","auditor"]\nhours=48\nfresh_minutes=0\n'
        '[[sensitive]]\noperations=["destroy","rotate"]\ncount=3\nroles=["custodian","auditor"]\nhours=2\nfresh_minutes=9',
        NAMES,
    )
    rule = rules.approval("destroy")
    assert rule is not None and (rule.count, rule.roles, rule.hours) == (3, ("auditor",), 2)
    assert rules.fresh_seconds("destroy") == 540 and rules.approval("suspend") is None


def test_a_bundle_has_bounds_and_one_digest() -> None:
    for files in [
        {}, {"a.cedar": ""}, {"rules.toml": "", "../a.cedar": ""}, {"rules.toml": "", "A.cedar": ""},
        {"rules.toml": "", "a.txt": ""}, {"rules.toml": "", "a.cedar": "\r\n"}, {"rules.toml": "", "a.cedar": "\0"},
    ]:  # fmt: skip
        with pytest.raises(Malformed):
            checked_bundle(files)
    with pytest.raises(TooLarge):
        checked_bundle({"rules.toml": "", "a.cedar": "/" * (3 << 20)})
    with pytest.raises(TooLarge):
        checked_bundle({"rules.toml": "", **{f"a{i}.cedar": "" for i in range(80)}})
    one, other = Bundle({"rules.toml": "", "a.cedar": "x"}), Bundle({"a.cedar": "x", "rules.toml": ""})
    assert one.digest() == other.digest() != Bundle({"rules.toml": "x", "a.cedar": ""}).digest()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[sensitive]]\nclasses = ["exports"]\n', "exports"),
        ("[[sensitive]]\ncount = 2\n", "names nothing"),
        (
            '[[sensitive]]\nclasses = ["export"]\nroles = ["auditor"]\n[[sensitive]]\nclasses = ["export"]\nroles = ["operator"]\n',
            "class export have no role in common",
        ),
        (
            '[[sensitive]]\nclasses = ["destruction"]\nroles = ["auditor"]\n'
            '[[sensitive]]\noperations = ["destroy"]\nroles = ["operator"]\n',
            "for destroy have no role in common",
        ),
    ],
)
def test_classes_that_could_not_hold_are_refused(text: str, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        read_rules(text, {"destroy": frozenset()}, {"destroy": "destruction"})


def test_a_rule_over_a_class_and_one_over_its_operation_hold_together() -> None:
    text = (
        '[[sensitive]]\nclasses = ["destruction"]\ncount = 3\nhours = 8\nroles = ["auditor", "operator"]\n'
        '[[sensitive]]\noperations = ["destroy"]\ncount = 1\nhours = 9\nroles = ["operator", "custodian"]\nassurance = 3\n'
    )
    rule = read_rules(text, {"destroy": frozenset(), "seal": frozenset()}, {"destroy": "destruction"}).approval("destroy")
    assert rule is not None
    assert (rule.count, rule.hours, rule.roles, rule.assurance) == (3, 8, ("operator",), 3)
