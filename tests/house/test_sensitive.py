"""No operation that lets something out, ends it, or touches the root comes without the class that has it wait for others."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from keyclave.operations.operation import Operation
from keyclave.operations.revisions import kinds
from keyclave.operations.table import OPERATIONS
from keyclave.policy.bundle import Bundle, standard
from keyclave.policy.classes import CALLED, Class
from keyclave.policy.duties import DUTIES, USES
from keyclave.policy.engine import Compiler
from keyclave.policy.read_rules import read_rules

WORDS = frozenset(
    (
        "backup", "ceremony", "destroy", "disclose", "enable", "erase", "escrow", "export", "extract", "forward", "import", "purge",
        "restore", "reveal", "root", "seal", "share", "shares", "shred", "sink", "sinks", "tenant", "tenants", "wipe",
    )
)  # fmt: skip
"""In the name of an operation they say that it may belong to a class."""
MATERIAL = frozenset(("key_bytes", "material", "plaintext", "private", "private_key", "secret", "share", "shared_secret"))
"""In an answer they are what must not leave without others."""
EXEMPT = {
    "import-parameters": "hands out a public key",
    "key-import": "brings material in; nothing leaves",
    "seal": "for emergencies: it must be possible at once, and takes nothing but service",
    "share-holder-list": "reads names",
    "share-holder-name": "its answer names the number of a share",
}
pytestmark = pytest.mark.requirement("R15", "R16", "R31")


def unclassed(rows: Iterable[Operation], exempt: Iterable[str]) -> list[str]:
    """Return the operations whose name or answer says that they need a class, and which have none."""
    found = []
    for op in rows:
        named = not WORDS.isdisjoint(op.name.split("-"))
        lets_out = op.name not in USES and not op.self_service and not MATERIAL.isdisjoint(_fields(op.answer))
        if (named or lets_out) and op.classed is None and op.name not in exempt:
            found.append(op.name)
    return sorted(set(found))


def _fields(form: Any, seen: frozenset[Any] = frozenset()) -> set[str]:
    """Return the names of every field of an answer, those of its parts too."""
    if form in seen:
        return set()
    if isinstance(form, type) and issubclass(form, msgspec.Struct):
        hints = typing.get_type_hints(form)
        return {*hints} | {name for inner in hints.values() for name in _fields(inner, seen | {form})}
    return {name for inner in typing.get_args(form) if not isinstance(inner, str) for name in _fields(inner, seen)}


def test_every_operation_that_needs_a_class_has_one() -> None:
    assert unclassed(OPERATIONS, EXEMPT) == []


def test_what_is_exempt_is_there_and_would_be_found() -> None:
    names = {op.name for op in OPERATIONS}
    assert EXEMPT.keys() <= names
    bare = [dataclasses.replace(op, classed=None) for op in OPERATIONS if op.name in EXEMPT]
    assert set(unclassed(bare, ())) == EXEMPT.keys()


@pytest.mark.parametrize("name", ["backup-export", "key-export", "audit-sink-disable", "root-rotate", "tenant-destroy"])
def test_the_rule_finds_a_name_without_a_class(name: str) -> None:
    planted = dataclasses.replace(OPERATIONS[0], name=name, answer=msgspec.defstruct("Nothing", []))
    assert unclassed([planted], EXEMPT) == [name]
    assert unclassed([dataclasses.replace(planted, classed=Class.EXPORT)], EXEMPT) == []


def test_the_rule_finds_material_in_an_answer_however_deep() -> None:
    inner = msgspec.defstruct("Inner", [("private_key", str)])
    outer = msgspec.defstruct("Outer", [("keys", list[inner] | None)])  # type: ignore[valid-type]
    planted = dataclasses.replace(OPERATIONS[0], name="key-show", answer=outer)
    assert unclassed([planted], EXEMPT) == ["key-show"]


def test_rows_of_one_name_are_of_one_class() -> None:
    by_name: dict[str, set[Class | None]] = {}
    for op in OPERATIONS:
        by_name.setdefault(op.name, set()).add(op.classed)
    assert {name: found for name, found in by_name.items() if len(found) > 1} == {}
    assert CALLED.keys() <= DUTIES.keys()


@pytest.mark.parametrize("people", ["passkeys", "tokens"])
def test_every_class_is_sensitive_in_the_standard_policy(people: str) -> None:
    """Each class, with an operation of it that no policy can know by name yet."""
    known = kinds(OPERATIONS)
    later = {f"later-{one.value}": msgspec.structs.replace(known["destroy"], classed=one.value) for one in Class}
    over = {name: kind.over for name, kind in {**known, **later}.items()}
    classed = {name: kind.classed for name, kind in {**known, **later}.items()}
    rules = read_rules(standard(people=people).rules, over, classed)
    for one in Class:
        rule = rules.approval(f"later-{one.value}")
        assert rule is not None and rule.count >= 1 and rule.roles, one
    assert {name for name in known if known[name].classed and rules.approval(name) is None} == set()
    expected = {
        "destroy",
        "policy-apply",
        "privilege-grant",
        "tenant-create",
        "share-holder-name",
        "break-glass-review",
        "person-enable",
    }
    assert {name for name in known if known[name].classed} == expected
    assert {name for name in known if rules.approval(name)} == expected | {"elevate-approved"}
    assert rules.approval("seal") is None


def test_a_policy_that_names_operations_alone_goes_on_and_cannot_let_a_later_export_through() -> None:
    """A revision that was applied before there were classes."""
    text = '[[sensitive]]\noperations = ["destroy"]\ncount = 2\nroles = ["custodian", "operator"]\n'
    files = {**standard(people="tokens").files, "rules.toml": text}
    compiled = Compiler(kinds(OPERATIONS)).compile(Bundle(files=files))
    assert [name for name in sorted(compiled.kinds) if compiled.rules.approval(name)] == ["destroy", "policy-apply"]
    known = kinds(OPERATIONS)
    for one, waits in ((Class.EXPORT, True), (Class.AUDIT_SINK, True), (Class.ROOT, False)):
        later = {**known, "later": msgspec.structs.replace(known["destroy"], classed=one.value)}
        rule = Compiler(later).compile(Bundle(files=files)).rules.approval("later")
        assert (rule is not None) is waits, one
