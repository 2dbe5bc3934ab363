"""Rules about the code, read from its syntax trees. Each takes a tree of files and returns its breaches, one line each."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.house.source import EVERYTHING, PRODUCT, SERVER, at, python_files, tree

CRYPTO_LIBRARIES = frozenset({"cryptography", "hashlib", "hmac", "secrets", "ctypes", "_hashlib", "_ssl", "_ctypes"})
CRYPTO_ROOMS = ("src/keyclave/crypto/", "src/keyclave/roots/")
LIBC = "src/keyclave/store/embedded/background_sync.py"  # calls aio_fsync of libc, and knows no secret: decision 12
LISTENER = "src/keyclave/app/"

STATE_TABLE = "src/keyclave/keys/transitions.py"

CATCH_ALL = frozenset({"util", "utils", "utilities", "helper", "helpers", "manager", "managers", "common", "misc"})


def without_purpose(root: Path) -> list[str]:
    """Return the modules that do not open by saying what they are for."""
    return [at(root, path) for path in python_files(root, EVERYTHING) if not (ast.get_docstring(tree(path)) or "").strip()]


def catch_all_names(root: Path) -> list[str]:
    """Return files and folders named after nothing: whatever fits nowhere ends up in them, and nobody finds it again."""
    found = []
    for path in python_files(root, EVERYTHING):
        words = {word for part in path.relative_to(root).with_suffix("").parts for word in part.lower().split("_")}
        if words & CATCH_ALL:
            found.append(at(root, path))
    return found


def _imports(node: ast.AST) -> Iterator[str]:
    """Yield the top-level names that a node imports, by statement or by call."""
    if isinstance(node, ast.Import):
        yield from (alias.name.split(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module.split(".")[0]
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
            yield node.args[0].value.split(".")[0]


def crypto_outside_its_rooms(root: Path) -> list[str]:
    """Return imports of a cryptographic library outside crypto and roots, and of ssl outside the listener's room.

    The import contracts say the same; this one also sees `import_module("hashlib")`, which they cannot.
    """
    found = []
    for path in python_files(root, SERVER):
        name = path.relative_to(root).as_posix()
        if name.startswith(CRYPTO_ROOMS):
            continue
        forbidden = CRYPTO_LIBRARIES if name.startswith(LISTENER) else CRYPTO_LIBRARIES | {"ssl"}
        if name == LIBC:
            forbidden = forbidden - {"ctypes"}
        for node in ast.walk(tree(path)):
            found += [f"{at(root, path, node.lineno)} imports {name}" for name in _imports(node) if name in forbidden]
    return found


def server_in_other_packages(root: Path) -> list[str]:
    """Return imports of the server in the client, the command line and the verifier: they work where no server is installed."""
    found = []
    for path in python_files(root, PRODUCT):
        if path.relative_to(root).as_posix().startswith("src/keyclave/"):
            continue
        for node in ast.walk(tree(path)):
            found += [f"{at(root, path, node.lineno)} imports keyclave" for name in _imports(node) if name == "keyclave"]
    return found


def _carried(value: ast.expr) -> bool:
    """Tell whether an expression carries a state over from a record, or is the first state: neither decides anything."""
    carries = any(isinstance(node, ast.Attribute) and node.attr == "state" for node in ast.walk(value))
    return carries or (isinstance(value, ast.Name) and value.id == "FIRST")


def _gives_state(node: ast.AST) -> bool:
    """Tell whether a node gives something a `state` that it decides itself."""
    if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        named = any(isinstance(part, ast.Attribute) and part.attr == "state" for target in targets for part in ast.walk(target))
        stored = any(isinstance(t, ast.Attribute) and t.attr == "state" for t in targets) or (
            named and any(isinstance(t, ast.Tuple | ast.List) for t in targets)
        )
        return stored and not (node.value is not None and _carried(node.value))
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if "setattr" in name:
        return any(isinstance(arg, ast.Constant) and arg.value == "state" for arg in node.args)
    given = [keyword.value for keyword in node.keywords if keyword.arg == "state"]
    if "replace" in name:
        return bool(given)
    return any(not _carried(value) for value in given)


def states_given_elsewhere(root: Path) -> list[str]:
    """Return the places outside the transition table that give a key version a state.

    A record may be copied with the state it has (`state=row.state`) and made with the first one (`state=FIRST`).
    """
    found = []
    for path in python_files(root, SERVER):
        if path.relative_to(root).as_posix() != STATE_TABLE:
            found += [at(root, path, node.lineno) for node in ast.walk(tree(path)) if _gives_state(node)]
    return found
