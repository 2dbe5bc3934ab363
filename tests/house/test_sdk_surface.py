"""No type that holds plain key material can be reached from the top of the SDK: one has to go and fetch it by its full name."""

from __future__ import annotations

import dataclasses
import types

import keyclave_client


def secret_types(module: types.ModuleType) -> list[str]:
    """Return the exported names whose type has a field for plain key material.

    Such a field is marked secret in a dataclass, or is a slot named for what it holds.
    """
    found = []
    for name in module.__all__:
        value = getattr(module, name)
        marked = dataclasses.is_dataclass(value) and any(field.metadata.get("secret") for field in dataclasses.fields(value))
        slots = {slot.strip("_") for slot in getattr(value, "__slots__", ())}
        if marked or slots & {"plain", "plaintext", "material", "secret", "private", "private_key", "shared_secret"}:
            found.append(name)
    return found


def test_no_secret_type_stands_at_the_top() -> None:
    assert secret_types(keyclave_client) == []


def test_everything_exported_is_there() -> None:
    assert sorted(keyclave_client.__all__) == sorted(set(keyclave_client.__all__))
    assert all(getattr(keyclave_client, name) is not None for name in keyclave_client.__all__)


def test_the_rule_finds_secret_types() -> None:
    class Slotted:
        __slots__ = ("_plain", "wrapped")

    @dataclasses.dataclass
    class Marked:
        material: bytes = dataclasses.field(metadata={"secret": True})

    @dataclasses.dataclass
    class Harmless:
        wrapped: bytes = b""

    planted = types.ModuleType("planted")
    planted.__dict__.update(Slotted=Slotted, Marked=Marked, Harmless=Harmless, __all__=["Slotted", "Marked", "Harmless"])
    assert secret_types(planted) == ["Slotted", "Marked"]
