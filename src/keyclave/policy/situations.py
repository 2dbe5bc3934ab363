"""Under which circumstances a policy decides otherwise: every value that the policies at hand look at, and no other.

A question about a policy ("who can", "what changes") must not depend on where and how somebody happens to call. So it is asked
once for each combination of what the policies read; addresses are taken from each stretch between two borders of the networks.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from keyclave.identity.grants import PURPOSES
from keyclave.policy.cedar import Policy
from keyclave.policy.engine import Compiled

NAMES = ("aal", "elevated", "fresh", "granted", "how", "networks", "plane", "purpose")
MOST = 256  # situations of one question; beyond that, one circumstance is varied at a time
_HOW = ("passkey", "", "totp", "oidc", "mtls")
_PURPOSES = ("", *PURPOSES)


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """How a call comes. `address` stands for every address of the same networks; empty for none of them. The defaults are what
    permits most, by and large."""

    aal: int = 3
    address: str = ""
    elevated: bool = False
    fresh: bool = True
    granted: bool = False
    how: str = "passkey"
    plane: str = "both"
    purpose: str = ""

    def networks(self, compiled: Compiled) -> frozenset[str]:
        """Return the networks that the address lies in, as a policy names them."""
        if not self.address:
            return frozenset()
        address = ipaddress.ip_address(self.address)
        return frozenset(name for name, blocks in compiled.networks if any(address in block for block in blocks))


class Situations(msgspec.Struct, frozen=True):
    """What to ask. `names` are the circumstances that matter; `complete` is whether every combination of them is there."""

    names: tuple[str, ...]
    all: tuple[Situation, ...]
    complete: bool

    def describe(self, chosen: Iterable[Situation], compiled: Compiled) -> str:
        """Say in which situations: "always", or the values that each circumstance has in one of them at least."""
        found = list(chosen)
        if len(found) == len(self.all) and self.complete:
            return "always"
        parts = []
        for name in self.names:
            here = _values(name, found, compiled)
            if here != _values(name, self.all, compiled):
                parts.append(f"{name} {' or '.join(here)}")
        return "when " + ", ".join(parts) if parts else "in some combinations of " + ", ".join(self.names)


def read_by(policies: Iterable[Policy]) -> frozenset[str]:
    """Return the names of the circumstances that policies read."""
    found: set[str] = set()
    for policy in policies:
        _read(policy.tree().get("conditions", []), found)
    return frozenset(found)


def situations(names: Iterable[str], compiled: Sequence[Compiled]) -> Situations:
    """Return the situations that differ in `names`, those that permit most first."""
    varied = tuple(name for name in NAMES if name in set(names))
    fields = [_DOMAINS[name] for name in varied if name != "networks"]
    plain = [name for name in varied if name != "networks"]
    if "networks" in varied:
        plain, fields = [*plain, "address"], [*fields, tuple(addresses(compiled))]
    count = 1
    for values in fields:
        count *= len(values)
    if count <= MOST:
        every = tuple(Situation(**dict(zip(plain, values, strict=True))) for values in itertools.product(*fields))
        return Situations(varied, every, True)
    return Situations(varied, tuple(dict.fromkeys(_one_at_a_time(plain, fields))), False)


def addresses(compiled: Sequence[Compiled]) -> Iterator[str]:
    """Yield an address of every stretch that the borders of all networks leave, and the empty one for outside all."""
    yield ""
    borders = set()
    for revision in compiled:
        for _, blocks in revision.networks:
            for block in blocks:
                borders.add(block.network_address)
                after = int(block.broadcast_address) + 1
                if after < 2**block.max_prefixlen:
                    borders.add(type(block.network_address)(after))
    for border in sorted(borders, key=lambda address: (address.version, int(address))):
        yield str(border)


def _one_at_a_time(names: list[str], fields: list[Any]) -> Iterator[Situation]:
    for best in (True, False):
        base = {name: values[0 if best else -1] for name, values in zip(names, fields, strict=True)}
        for name, values in zip(names, fields, strict=True):
            for value in values[: MOST // 4]:
                yield Situation(**{**base, name: value})


def _values(name: str, situations: Iterable[Situation], compiled: Compiled) -> tuple[str, ...]:
    if name == "networks":
        texts = {"+".join(sorted(one.networks(compiled))) or "elsewhere" for one in situations}
    else:
        texts = {_text(getattr(one, name)) for one in situations}
    return tuple(sorted(texts))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) or "none"


def _read(form: Any, found: set[str]) -> None:
    """Collect what an expression reads of the context; one that takes it whole reads all of it."""
    if isinstance(form, list):
        for item in form:
            _read(item, found)
    elif isinstance(form, dict):
        if form.get("Var") == "context":
            found.update(NAMES)
            return
        for operator in (".", "has"):
            access = form.get(operator)
            if isinstance(access, dict) and access.get("left") == {"Var": "context"}:
                found.add(str(access.get("attr")))
                return
        for value in form.values():
            _read(value, found)


_DOMAINS: dict[str, tuple[Any, ...]] = {
    "aal": (3, 2, 1),
    "elevated": (False, True),
    "fresh": (True, False),
    "granted": (True, False),
    "how": _HOW,
    "plane": ("both", "control", "data"),
    "purpose": _PURPOSES,
}
