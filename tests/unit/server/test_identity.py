"""Roles, scopes and duties: what each may do, and that nothing else may."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyclave.core.errors import Malformed, Refused, SelfConflict
from keyclave.identity.caller import Caller, Credential
from keyclave.identity.roles import Role, check_assignment
from keyclave.identity.scope import Scope
from keyclave.operations.table import OPERATIONS
from keyclave.policy.cedar import OWN_GRANTS
from keyclave.policy.decision import Alternative
from keyclave.policy.duties import DUTIES, OWN_CREDENTIALS, SCOPED, USES, check_duty, check_issue, reaches


def caller(role: Role, scope: Scope | None = None, name: str = "ann") -> Caller:
    return Caller(
        Credential(id="crd_x", tenant="t", principal=name, role=role, scope=scope, created_at=0, created_by="", expires_at=1)
    )


@pytest.mark.requirement("R10")
@pytest.mark.parametrize(("held", "wanted"), list(itertools.product(Role, Role)))
def test_no_two_duties_in_one_hand(held: Role, wanted: Role) -> None:
    if held is wanted:
        check_assignment("ann", held, wanted)
    else:
        with pytest.raises(SelfConflict, match="already is"):
            check_assignment("ann", held, wanted)
    check_assignment("new", None, wanted)


@pytest.mark.requirement("R10", "R15")
def test_who_manages_keys_does_not_use_them_and_the_reverse() -> None:
    for use in USES:
        assert set(DUTIES[use]) <= {Role.APPLICATION, Role.BREAK_GLASS} and Role.APPLICATION in DUTIES[use]
    for name, roles in DUTIES.items():
        asks = {"approval-request", "approval-withdraw", "approval-execute"}  # of uses that policy has wait for others
        if name not in SCOPED | OWN_GRANTS | OWN_CREDENTIALS | asks and name not in {"whoami", "status-read", "receipt-read"}:
            assert Role.APPLICATION not in roles, name


@pytest.mark.requirement("R15")
def test_every_operation_of_the_table_has_a_duty_and_every_duty_an_operation() -> None:
    served = {op.name for op in OPERATIONS} | {"receipt-read", "status-read", "privilege-grant"}
    assert served == set(DUTIES)


@pytest.mark.requirement("R15")
@pytest.mark.parametrize(("role", "operation"), list(itertools.product(Role, sorted(DUTIES))))
def test_duties_are_refused_to_other_roles(role: Role, operation: str) -> None:
    if role in DUTIES[operation]:
        check_duty(caller(role), operation)
    else:
        with pytest.raises(Refused):
            check_duty(caller(role), operation)


@pytest.mark.requirement("R10")
def test_nobody_issues_to_themselves_or_above_their_duty() -> None:
    check_issue(caller(Role.OPERATOR), "app", Role.APPLICATION)
    check_issue(caller(Role.CUSTODIAN), "bob", Role.OPERATOR)
    for role, wanted in [(Role.OPERATOR, Role.CUSTODIAN), (Role.CUSTODIAN, Role.APPLICATION), (Role.AUDITOR, Role.AUDITOR)]:
        with pytest.raises(Refused):
            check_issue(caller(role), "bob", wanted)
    with pytest.raises(Refused, match="themselves"):
        check_issue(caller(Role.CUSTODIAN), "ann", Role.CUSTODIAN)


@pytest.mark.requirement("R29")
def test_a_scope_reaches_what_it_names() -> None:
    app = caller(Role.APPLICATION, Scope(operations=("encrypt",), keys=("ehr-*", "key_1", "lab")))
    for key_id, name, expected in [
        ("key_1", "anything", True),
        ("key_2", "ehr-notes", True),
        ("key_2", "lab", True),
        ("key_2", "labs", False),
        ("key_2", "ehr", False),
    ]:
        assert reaches(app, "encrypt", key_id, name) is expected
        app.allowed.clear()
    assert not reaches(app, "decrypt", "key_1", "lab")
    assert not reaches(caller(Role.APPLICATION), "encrypt", "key_1", "lab")


@pytest.mark.requirement("R29")
@given(
    st.sets(st.sampled_from(sorted(SCOPED)), min_size=1),
    st.sets(st.text("abc*", min_size=1, max_size=3), min_size=1, max_size=4),
    st.text("abc", min_size=1, max_size=3),
    st.sampled_from(sorted(SCOPED)),
)
def test_removing_from_a_scope_never_grants(operations: set[str], keys: set[str], name: str, operation: str) -> None:
    whole = reaches(caller(Role.APPLICATION, Scope(tuple(operations), tuple(keys))), operation, "key_1", name)
    for fewer in [(operations - {o}, keys) for o in operations] + [(operations, keys - {k}) for k in keys]:
        part = reaches(caller(Role.APPLICATION, Scope(tuple(fewer[0]), tuple(fewer[1]))), operation, "key_1", name)
        assert not part or whole


@pytest.mark.requirement("R29")
def test_context_constraints() -> None:
    right = Alternative(context={"purpose": ("treatment",), "patient": ("*",)})
    assert right.admits({"purpose": "treatment", "patient": "p1", "other": "free"})
    for bad in [{}, {"purpose": "treatment"}, {"purpose": "research", "patient": "p1"}, {"patient": "p1"}]:
        assert not right.admits(bad)


def test_a_scope_must_make_sense() -> None:
    for bad in [
        Scope(),
        Scope(operations=("encrypt",)),
        Scope(operations=("key-create",), keys=("*",)),
        Scope(operations=("encrypt",), keys=("*",), context={"a": ()}),
        Scope(operations=("encrypt",), keys=tuple(f"k{i}" for i in range(200))),
    ]:
        with pytest.raises(Malformed):
            bad.check(SCOPED)
