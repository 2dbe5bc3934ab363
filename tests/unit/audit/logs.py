"""Logs for the tests: made by the server's room `keyclave.audit`, laid down as spec/log-directory.md says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from keyclave.audit.checkpoint import sign_checkpoint
from keyclave.audit.event import Event, encode
from keyclave.audit.note import signer_keys
from keyclave.audit.tiles import HASH, WIDTH, bundle_path, encode_bundle
from keyclave.audit.tree import Tree
from keyclave.crypto.digest import leaf_hash

ORIGIN = "keyclave.example/log"
NOON = 1_790_000_000  # POSIX seconds at which the test logs begin


class Keys:
    """A log's two signing keys, from fixed seeds: satisfies `keyclave.audit.note.Signer`."""

    def __init__(self, first: int = 0) -> None:
        seed = bytes(range(first, first + 32))
        self._ed25519 = Ed25519PrivateKey.from_private_bytes(seed)
        self._mldsa44 = MLDSA44PrivateKey.from_seed_bytes(seed)

    def public_ed25519(self) -> bytes:
        return self._ed25519.public_key().public_bytes_raw()

    def public_mldsa44(self) -> bytes:
        return self._mldsa44.public_key().public_bytes_raw()

    def sign_ed25519(self, message: bytes) -> bytes:
        return self._ed25519.sign(message)

    def sign_mldsa44(self, message: bytes) -> bytes:
        return self._mldsa44.sign(message)


def events(count: int, *, node: str = "n1", first: int = 0, actor: str = "ward-7") -> list[bytes]:
    """Return encoded events, a millisecond apart."""
    return [
        encode(
            Event(
                actor=actor,
                at=NOON * 1_000_000 + number * 1_000,
                context={"patient": ["h:abcdefghijklmnopqrstuv"]},
                detail={"id": f"{node}-{number + 1}", "note": 'a "quoted" text, "at":1,'},
                id=f"{node}-{number}",
                key="key_aaaaaaaaaaaaaaaaaaaaaaaaaa",
                op="encrypt",
                outcome="ok",
                version=1,
            )
        )
        for number in range(first, first + count)
    ]


class Log:
    """A log in memory: its entries, its tiles as they fell off the tree, and its root at any size."""

    def __init__(self, entries: Iterable[bytes] = (), keys: Keys | None = None) -> None:
        self.keys = keys or Keys()
        self.entries: list[bytes] = []
        self.tree = Tree()
        self._full: dict[tuple[int, int], bytes] = {}
        self.append(entries)

    def append(self, entries: Iterable[bytes]) -> None:
        """Take further entries."""
        for entry in entries:
            self.entries.append(entry)
            for tile in self.tree.append(leaf_hash(entry)):
                self._full[tile.level, tile.index] = tile.data

    @property
    def size(self) -> int:
        """Return how many entries there are."""
        return self.tree.size

    def read_tile(self, level: int, index: int, width: int) -> bytes:
        """Return the first `width` hashes of a tile."""
        data = self._full.get((level, index))
        if data is None:
            data = next(t.data for t in self.tree.partial_tiles() if (t.level, t.index) == (level, index))
        return data[: width * HASH]

    def checkpoint(self, at: int | None = None) -> str:
        """Return the checkpoint of the present size, signed a second after the last event."""
        signed = NOON + 1 + self.size // 1_000 if at is None else at
        return sign_checkpoint(ORIGIN, self.size, self.tree.root(), self.keys, signed)

    def vkeys(self) -> str:
        """Return the verifier keys, one a line."""
        return "".join(f"{key}\n" for key in signer_keys(ORIGIN, self.keys))

    def files(self, kept: Sequence[str] = ()) -> dict[str, bytes]:
        """Return the export: path -> bytes; `kept` are earlier checkpoints."""
        files = {"checkpoint": self.checkpoint().encode(), "keys": self.vkeys().encode()}
        files |= {f"checkpoints/{note.splitlines()[1]}": note.encode() for note in kept}
        for first in range(0, self.size, WIDTH):
            entries = self.entries[first : first + WIDTH]
            files[bundle_path(first // WIDTH, len(entries))] = encode_bundle(entries)
        for level, index in self._full:
            files[f"tile/{level}/{index:03}"] = self._full[level, index]
        files |= {tile.path: tile.data for tile in self.tree.partial_tiles()}
        return files


def lay_down(files: dict[str, bytes], folder: Path) -> Path:
    """Write an export and return its folder."""
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder
