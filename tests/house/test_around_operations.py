"""No protocol and no page goes around operations: every act comes by `desk.perform`, where policy and approvals hold it.

What they may import of the server, and touch of the desk, is listed; whatever is not on the lists is a breach. So a new way in
has to be put on a list by somebody who thought about it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyclave.operations.table import OPERATIONS
from tests.house.source import ROOT, at, python_files, tree

DOORS = ("src/keyclave/protocols", "src/keyclave/console")
ROOMS = ("core", "identity", "protocols", "console", "operations")
PURE = {"keyclave.audit.tiles", "keyclave.crypto.bearer", "keyclave.crypto.digest", "keyclave.policy.duties"}
"""Modules of lower floors that hold plain words and functions only."""
DESK = {"begin", "callers", "clock", "enqueue", "log", "module", "people", "perform", "use_again", "vault"}
INSIDE = {"module": {"fault"}, "vault": {"sealed"}, "people": {"relying"}}
"""What may be touched of a part of the desk; the rest of it does things."""
ENQUEUES = {"src/keyclave/protocols/rest/gateway.py", "src/keyclave/protocols/rest/refusals.py"}
"""Who hands over an attempt that is refused before there is anything to perform."""
POWERS = {"change_fn", "spends", "inner", "decision", "make_change", "judge", "admit", "keyring", "store"}
BEHIND = {"attempt", "invalidation", "once", "slow_work"}
"""Modules of operations that the desk acts by; `once.request_digest` and the words `Attempt` and `Reply` do nothing."""
VERBS = {(op.run.__module__, op.run.__name__) for op in OPERATIONS}


def imports(root: Path) -> Iterator[str]:
    """Yield imports of what does things without being asked through the desk."""
    for path in python_files(root, DOORS):
        for node in ast.walk(tree(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                module, _, what = name.rpartition(".")
                room = name.split(".")[1] if name.startswith("keyclave.") else ""
                if room and room not in ROOMS and module not in PURE and name not in PURE and what != "__version__":
                    yield f"{at(root, path, node.lineno)} imports {name}"
                if (module, what) in VERBS:
                    yield f"{at(root, path, node.lineno)} imports the verb {name}"
                if (
                    room == "operations"
                    and module.rpartition(".")[2] in BEHIND
                    and what not in ("Attempt", "Reply", "request_digest")
                ):
                    yield f"{at(root, path, node.lineno)} imports {name}"
                if name.split(".")[0] in ("sqlalchemy", "sqlite3") or name in ("importlib", "importlib.import_module"):
                    yield f"{at(root, path, node.lineno)} imports {name}"


def calls(root: Path) -> Iterator[str]:
    """Yield uses of the desk, of attempts and of operations that go around `perform`."""
    for path in python_files(root, DOORS):
        name = path.relative_to(root).as_posix()
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr", "vars"):
                texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
                if POWERS.intersection(texts):
                    yield f"{at(root, path, node.lineno)} reaches for {texts}"
            if not isinstance(node, ast.Attribute):
                continue
            where = f"{at(root, path, node.lineno)} touches"
            if node.attr == "run" and not (isinstance(node.value, ast.Name) and node.value.id == "asyncio"):
                yield f"{where} an operation's run"
            if node.attr in POWERS:
                yield f"{where} {node.attr}"
            if _is_desk(node.value):
                if node.attr not in DESK:
                    yield f"{where} desk.{node.attr}"
                if node.attr == "enqueue" and name not in ENQUEUES:
                    yield f"{where} desk.enqueue"
            part = node.value
            if isinstance(part, ast.Attribute) and _is_desk(part.value) and node.attr not in INSIDE.get(part.attr, {node.attr}):
                yield f"{where} desk.{part.attr}.{node.attr}"


def _is_desk(node: ast.expr) -> bool:
    return (isinstance(node, ast.Name) and node.id.strip("_") == "desk") or (
        isinstance(node, ast.Attribute) and node.attr.strip("_") == "desk"
    )


@pytest.mark.requirement("P3", "R31")
def test_no_protocol_and_no_page_goes_around_operations() -> None:
    assert [*imports(ROOT), *calls(ROOT)] == []


BREACHES = {
    "from keyclave.store import key_rows": imports,
    "from keyclave.store.access.approvals import end_approval": imports,
    "from keyclave.approvals.counting import tally": imports,
    "from keyclave.keys.transitions import moved": imports,
    "from keyclave.operations.destroy_key import destroy": imports,
    "from keyclave.operations.approvals.execute import execute": imports,
    "from keyclave.operations.once import make_change": imports,
    "from keyclave.operations.invalidation import settled": imports,
    "import keyclave.roots.software": imports,
    "def late():\n    import sqlite3": imports,
    "def go(desk, op, attempt, request): return op.run(desk, attempt, None, request)": calls,
    "def go(gateway): gateway.desk.store.enqueue(None)": calls,
    "def go(desk): return desk.keyring.find('t', 'k')": calls,
    "def go(desk, op, attempt): return desk.judge(op, attempt, '')": calls,
    "def go(desk, attempt): attempt.change_fn = None": calls,
    "def go(desk, attempt): attempt.spends = ()": calls,
    "def go(desk, attempt): desk.enqueue(attempt)": calls,
    "def go(self): self._desk.vault.open_with(None)": calls,
    "def go(desk): return getattr(desk, 'store')": calls,
    "def go(desk): desk.people.ceremonies.spend()": calls,
}


@pytest.mark.parametrize("breach", BREACHES)
@pytest.mark.parametrize("door", DOORS)
def test_a_planted_breach_is_found(tmp_path: Path, door: str, breach: str) -> None:
    folder = tmp_path / door
    folder.mkdir(parents=True)
    (folder / "planted.py").write_text(f'"""Planted."""\n{breach}\n')
    assert list(BREACHES[breach](tmp_path))
