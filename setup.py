"""Builds the package. With KEYCLAVE_COMPILE=1 the modules that every request passes through are compiled ahead of time.

The text stays beside what is compiled from it, and does the same without it, slower (docs/decisions/0015). Two kinds of modules
are never compiled: those that handle keys in locked memory, so that what is read is what runs there, and those whose classes
need what the compiler leaves out without a word (arguments of a class statement, such as msgspec's; a house test sees to it).
"""

from __future__ import annotations

import os

from setuptools import Extension, setup  # type: ignore[import-untyped]

COMPILED = (
    "audit/event_forms.py",
    "audit/event_ids.py",
    "audit/tree.py",
    "core/clock.py",
    "core/form.py",
    "core/ids.py",
    "crypto/digest.py",
    "operations/answers.py",
    "operations/attempt.py",
    "operations/desk.py",
    "operations/fields.py",
    "operations/invalidation.py",
    "operations/keyring.py",
    "operations/limits.py",
    "operations/messages.py",
    "operations/pending.py",
    "operations/repeats.py",
    "operations/revisions.py",
    "operations/sealing.py",
    "operations/vault.py",
    "protocols/rest/arrivals.py",
    "protocols/rest/bodies.py",
    "protocols/rest/cycle.py",
    "protocols/rest/departures.py",
    "protocols/rest/gateway.py",
    "store/embedded/following.py",
    "store/embedded/groups.py",
    "store/embedded/syncs.py",
    "store/embedded/turns.py",
    "store/entries.py",
    "store/savepoints.py",
)


def extensions() -> list[Extension]:
    """Return what is to be compiled: nothing unless it is asked for."""
    if os.environ.get("KEYCLAVE_COMPILE") != "1":
        return []
    from mypyc.build import mypycify

    paths = [f"src/keyclave/{path}" for path in COMPILED]
    return mypycify(["--config-file=pyproject.toml", *paths], debug_level="0", target_dir="build/work/c")


setup(ext_modules=extensions())
