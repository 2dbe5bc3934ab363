"""The vectors of spec/local-envelope.md: opened as told, made again byte for byte, and themselves made again from the page."""

from __future__ import annotations

import hashlib
import io
import runpy
from collections.abc import Mapping
from pathlib import Path

import pytest

from keyclave_client import Encryptor
from keyclave_client.canonical import canonical_map
from keyclave_client.errors import Undecipherable
from keyclave_client.local import header as wire
from keyclave_client.local.body import new_body, seal_bytes
from keyclave_client.local.datakey import DataKey
from keyclave_client.local.stream import filler, seal_chunks

FOLDER = Path(__file__).parents[3] / "vectors" / "local-envelope"


class Vector:
    """One paragraph of a vector file."""

    def __init__(self, text: str) -> None:
        pairs = [(name, value) for name, _, value in (line.partition(": ") for line in text.splitlines())]
        self.lines = dict(pairs)
        self.context = dict(value.split("=", 1) for name, value in pairs if name == "context")

    def raw(self, name: str) -> bytes:
        return bytes.fromhex(self.lines[name])

    @property
    def plaintext(self) -> bytes:
        if "plaintext-repeat" in self.lines:
            byte, count = self.lines["plaintext-repeat"].split()
            return bytes.fromhex(byte) * int(count)
        return self.raw("plaintext") if "plaintext" in self.lines else b""


def load() -> list[tuple[str, Vector]]:
    found = []
    for path in sorted(FOLDER.glob("*.txt")):
        for paragraph in path.read_text(encoding="utf-8").split("\n\n"):
            if not paragraph.startswith("#"):
                vector = Vector(paragraph)
                found.append((f"{path.stem}: {vector.lines['flag']}", vector))
    return found


VECTORS = load()


class OneKey:
    """A source that opens every wrapped key to the vector's data key."""

    def __init__(self, key: bytes) -> None:
        self.key = key

    def fresh(self, context: Mapping[str, str]) -> DataKey:
        raise AssertionError("no vector asks for a fresh data key")

    def open(self, wrapped: bytes, context: Mapping[str, str]) -> DataKey:
        return DataKey(bytearray(self.key), wrapped)

    def rewrap(self, wrapped: bytes, context: Mapping[str, str], to_key: str | None) -> bytes:
        raise AssertionError("no vector rewraps")


def seal_again(vector: Vector, wrapped: bytes) -> bytes:
    """Return the object that a writer makes with the vector's fixed message id."""
    key = DataKey(bytearray(vector.raw("data-key")), wrapped)
    encoded, message_id = canonical_map(vector.context), vector.raw("message-id")
    if "chunk" not in vector.lines:
        return seal_bytes(key, message_id, vector.plaintext, encoded)
    chunk = int(vector.lines["chunk"])
    header, body = new_body(key, wire.STREAM, chunk, message_id, encoded)
    return header.encode() + b"".join(bytes(c) for c in seal_chunks(body, chunk, filler(io.BytesIO(vector.plaintext))))


@pytest.mark.requirement("R11")
@pytest.mark.parametrize("vector", [v for _, v in VECTORS], ids=[name for name, _ in VECTORS])
def test_vector(vector: Vector) -> None:
    encryptor = Encryptor(OneKey(vector.raw("data-key")))
    if "object" not in vector.lines:
        wrapped = next(wire.parse(v.raw("object")).wrapped for _, v in VECTORS if "object" in v.lines and "chunk" in v.lines)
        made = seal_again(vector, wrapped)
        assert hashlib.sha256(made).hexdigest() == vector.lines["object-sha256"]
        assert encryptor.decrypt(made, vector.context) == vector.plaintext
        return

    blob = vector.raw("object")
    released = io.BytesIO()
    if vector.lines["expect"] == "success":
        assert encryptor.decrypt(blob, vector.context) == vector.plaintext
        assert encryptor.decrypt_stream(io.BytesIO(blob), released, vector.context) == len(vector.plaintext)
        assert seal_again(vector, wire.parse(blob).wrapped) == blob
    else:
        with pytest.raises(Undecipherable):
            encryptor.decrypt(blob, vector.context)
        with pytest.raises(Undecipherable):
            encryptor.decrypt_stream(io.BytesIO(blob), released, vector.context)

    assert released.getvalue() == vector.plaintext
    if "plaintext-sha256" in vector.lines:
        assert hashlib.sha256(vector.plaintext).hexdigest() == vector.lines["plaintext-sha256"]
    assert (vector.lines["expect"] == "undecipherable") == ("plaintext-sha256" not in vector.lines)


def test_there_are_vectors_of_every_kind() -> None:
    assert {v.lines["expect"] for _, v in VECTORS} == {"success", "undecipherable", "cut short"}
    assert {"bytes", "stream"} == {name.split(":")[0] for name, _ in VECTORS}


def test_files_are_what_the_page_gives() -> None:
    make = runpy.run_path(str(FOLDER / "make.py"))
    for name in ("bytes", "stream"):
        text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")

        assert text.split("\n\n", 1)[1] == "\n".join(make[f"{name}_form"]())
