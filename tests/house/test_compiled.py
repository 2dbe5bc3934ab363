"""What is compiled ahead of time does as its text says: nothing in it is left out by the compiler without a word."""

from __future__ import annotations

import ast

import pytest

from tests.house.source import ROOT

IN_THE_CLEAR = ("crypto/", "envelope/", "roots/")
HASHES_ALONE = "crypto/digest.py"


def compiled() -> list[str]:
    """Return the paths that setup.py names, below src/keyclave."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "COMPILED":
            return list(ast.literal_eval(node.value))
    raise AssertionError("setup.py has no COMPILED")


def faults(text: str) -> list[str]:
    """Return what the compiler would do otherwise than the interpreter, as far as it can be told from the text."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and node.keywords:
            found.append(f"{node.lineno}: arguments in a class statement are dropped")
        if (
            isinstance(node, ast.ImportFrom)
            and node.module == "sqlalchemy"
            and {name.name for name in node.names} != {"Connection"}
        ):
            found.append(f"{node.lineno}: rows are not the tuples that they are said to be")
        if isinstance(node, ast.Attribute) and node.attr == "__dict__":
            found.append(f"{node.lineno}: compiled objects have no __dict__")
        if isinstance(node, ast.FunctionDef) and node.name in ("__del__", "__getattr__", "__setattr__"):
            found.append(f"{node.lineno}: {node.name} is not what it is in the interpreter")
    return found


def test_the_list_names_files_that_are_there_in_order() -> None:
    paths = compiled()
    assert paths == sorted(set(paths)) and len(paths) > 20
    assert [path for path in paths if not (ROOT / "src/keyclave" / path).is_file()] == []


def test_nothing_is_compiled_that_holds_key_material_in_the_clear() -> None:
    assert [path for path in compiled() if path.startswith(IN_THE_CLEAR) and path != HASHES_ALONE] == []


@pytest.mark.parametrize("path", compiled())
def test_a_compiled_file_uses_nothing_that_the_compiler_leaves_out(path: str) -> None:
    assert faults((ROOT / "src/keyclave" / path).read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "class A(B, frozen=True): ...",
        "from sqlalchemy import Connection, select",
        "class A:\n    def f(self):\n        self.__dict__.clear()",
        "class A:\n    def __del__(self): ...",
        "class A:\n    def __setattr__(self, name, value): ...",
    ],
)
def test_the_rule_finds_what_it_is_for(text: str) -> None:
    assert len(faults(text)) == 1
