"""Names of people whom a provider vouches for: two subjects never have one name, and no subject looks like another's."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyclave.core.limits import NAME
from keyclave.identity.names import kind_of
from keyclave.identity.oidc_meaning import level_of, principal_of, roles_of
from keyclave.identity.oidc_tokens import Vouched

pytestmark = pytest.mark.requirement("R30")
SUBJECTS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255)
FORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]*")  # of every name that is invited


@given(SUBJECTS, SUBJECTS)
def test_two_subjects_have_two_names_of_the_form_that_is_invited(one: str, other: str) -> None:
    names = [principal_of("corp", one), principal_of("corp", other)]
    assert (names[0] == names[1]) == (one == other)
    for name in names:
        assert FORM.fullmatch(name)
        assert len(name) <= NAME
        assert kind_of(name) == "oidc"
        assert name.count(":") == 2


@pytest.mark.parametrize(
    ("subject", "name"),
    [("alice", "oidc:corp:alice"), ("auth0|7", "oidc:corp:auth0+7c7"), ("a+7c7", "oidc:corp:a+2b7c7"),
     ("x:y", "oidc:corp:x+3ay"), ("Anna@Ward.example", "oidc:corp:Anna@Ward.example")],
)  # fmt: skip
def test_names_are_as_the_specification_says(subject: str, name: str) -> None:
    assert principal_of("corp", subject) == name


def test_what_policy_does_not_know_means_nothing() -> None:
    said = Vouched(subject="s", proved_at=0, acr="strong", amr=("mfa", "pwd"), groups=("a", "b"))
    assert level_of(said, {}, {}) == 1
    assert level_of(said, {"strong": 2}, {"mfa": 3}) == 3
    assert level_of(said, {"Strong": 3}, {"mf": 3}) == 1
    assert roles_of(said, {"a": "reader", "c": "writer"}) == {"reader"}
