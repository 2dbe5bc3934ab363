"""Every error has a code, and every table that maps codes knows them all: a new error cannot fall through to "500, something"."""

from __future__ import annotations

import importlib
import inspect
import re
from types import ModuleType

import pytest

import keyclave.protocols
from keyclave.core import errors
from keyclave_client import errors as client_errors
from tests.house.source import ROOT

PROTOCOLS = sorted(path.parent.name for path in (ROOT / "src/keyclave/protocols").glob("*/__init__.py"))


def kinds(module: ModuleType) -> dict[str, type[Exception]]:
    """Return the errors of a module by name."""
    return {name: kind for name, kind in vars(module).items() if inspect.isclass(kind) and issubclass(kind, Exception)}


def codes() -> set[str]:
    """Return the codes of core.errors, the base's included."""
    return {kind.code for kind in kinds(errors).values()}  # type: ignore[attr-defined]


def gaps(table: dict[str, int], wanted: set[str]) -> list[str]:
    """Return codes without a place in the table, places without a code, and answers that are no error."""
    odd = [f"{code}: {status} is no error" for code, status in table.items() if not 400 <= status <= 599]
    return (
        [f"{code} is missing" for code in sorted(wanted - set(table))]
        + [f"{code} is no error of core" for code in sorted(set(table) - wanted)]
        + odd
    )


def test_the_table_check_finds_gaps() -> None:
    found = gaps({"a": 400, "b": 200, "z": 404}, {"a", "b", "c"})
    assert found == ["c is missing", "z is no error of core", "b: 200 is no error"]
    assert gaps({"a": 400}, {"a"}) == []


def test_there_is_a_protocol() -> None:
    assert "rest" in PROTOCOLS
    assert keyclave.protocols.__doc__


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_protocol_maps_every_error(protocol: str) -> None:
    problems = importlib.import_module(f"keyclave.protocols.{protocol}.problems")
    assert gaps(problems.STATUS, codes()) == []


def test_codes_are_unique_and_spelled_alike() -> None:
    named = [kind.code for kind in kinds(errors).values()]  # type: ignore[attr-defined]
    assert len(named) == len(set(named))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in named)


def test_the_page_of_errors_shows_the_tree_as_it_is() -> None:
    line = re.compile(r"^( {4,})([A-Z]\w+)\b(?: {2,}\w|$)", re.MULTILINE)
    drawn = [(len(m[1]) // 2, m[2]) for m in line.finditer(errors.__doc__ or "")]
    real = [(len(kind.__mro__), name) for name, kind in kinds(errors).items()]
    assert [name for _, name in drawn] == [name for _, name in real]
    assert [depth - drawn[0][0] for depth, _ in drawn] == [depth - real[0][0] for depth, _ in real]


def test_the_client_knows_every_code() -> None:
    assert codes() - {"error"} <= set(client_errors.BY_CODE)
    for code, kind in client_errors.BY_CODE.items():
        assert kind.default_code == code


def test_errors_of_the_undecipherable_kind_tell_nothing() -> None:
    """One class, one sentence, no argument: anything finer would be an oracle."""
    for kind in (errors.Undecipherable, errors.InvalidSignature):
        assert list(inspect.signature(kind).parameters) == []
        assert str(kind()) == str(kind())
