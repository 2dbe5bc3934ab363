"""What a worker gets from its supervisor at its start: numbers and inherited file descriptors. Nothing secret."""

from __future__ import annotations

import msgspec


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A worker's place among the others. `first`: nobody served this home before it, so a development root may open itself.
    `lost`: the root's key went with the last worker that held it, and nobody has given shares since."""

    number: int
    count: int
    parent: int  # process id
    first: bool
    lost: bool = False
    channel: int  # to the supervisor
    lock: int  # of the home: held as long as anybody serves it
    sockets: tuple[int, ...]  # bound: of `listen`, and of `data` where there is one


def encode(part: Part) -> str:
    """Return it as an argument of a command line."""
    return msgspec.json.encode(part).decode()


def decode(text: str) -> Part:
    """Read what `encode` returned."""
    return msgspec.json.decode(text, type=Part)
