"""What operations are sensitive for: classes that the operation table gives to its rows, and that rules.toml can name.

A rule that names a class holds for every operation of it, also for one that comes with a later version: it is sensitive from its
first day, without a change of the policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Class(StrEnum):
    """Why an operation is not for one person alone."""

    DESTRUCTION = "destruction"  # ends key material for good
    EXPORT = "export"  # lets key material, or what opens it, out of the server
    POLICY = "policy"  # changes the rules themselves
    PRIVILEGE = "privilege"  # gives people rights, or brings back those who had lost theirs
    ROOT = "root"  # a ceremony of the root: what stands under it, and who can open it
    BREAK_GLASS_REVIEW = "break-glass-review"
    AUDIT_SINK = "audit-sink"  # ends or diverts what leaves the server of its record


CALLED: dict[str, Class] = {"privilege-grant": Class.PRIVILEGE}
"""Classes of what several operations are judged as, where their request decides it."""

LEAST: tuple[Class, ...] = (Class.EXPORT, Class.AUDIT_SINK)
"""Classes whose operations wait for another person under every policy that names neither them nor the operation: a policy that
is older than such an operation could not name it, and must not let it through."""


def by_class(classed: Mapping[str, str]) -> dict[Class, tuple[str, ...]]:
    """Return the operations of each class, sorted. `classed`: operations to the name of their class, empty for none."""
    return {one: tuple(sorted(name for name, of in classed.items() if of == one.value)) for one in Class}
