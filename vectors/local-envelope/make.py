"""Writes the vectors of spec/local-envelope.md, from the page alone: nothing of `keyclave_client` is imported.

    python vectors/local-envelope/make.py

It is a second, plain writing of the format, so that vectors and code do not share a mistake. Everything in it is fixed: running
it again gives the same files, which a test holds.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = Path(__file__).parent
CONTEXT = {"patient": "p-17", "purpose": "treatment", "région": "Île-de-France"}
CHUNK = 12


def fixed(label: str, size: int) -> bytes:
    """Return bytes that look random and are the same for everyone."""
    return hashlib.shake_256(b"keyclave vectors " + label.encode()).digest(size)


DATA_KEY = fixed("data key", 32)
MESSAGE_ID = fixed("message id", 24)
# a wrapped key as the server makes it: marker, suite, kind, key id, version, then 108 bytes opaque here
WRAPPED = b"KC\x01\x01\x02" + fixed("key id", 16) + (7).to_bytes(4, "big") + fixed("wrapped", 108)
REWRAPPED = WRAPPED[:21] + (8).to_bytes(4, "big") + fixed("rewrapped", 108)


def item(raw: bytes) -> bytes:
    """Return bytes behind their length."""
    return len(raw).to_bytes(4, "big") + raw


def canonical_map(context: dict[str, str]) -> bytes:
    """Return the encoding of a context."""
    return b"".join(item(name) + item(value) for name, value in sorted((n.encode(), v.encode()) for n, v in context.items()))


class Maker:
    """Makes one object; each attack changes one thing in it."""

    def __init__(self, chunk: int = 0, context: dict[str, str] | None = None, key: bytes = DATA_KEY) -> None:
        self.chunk = chunk
        self.context = CONTEXT if context is None else context
        self.key = key
        kind = 2 if chunk else 1
        self.name = bytes([1, kind, chunk])
        encoded = canonical_map(self.context)
        info = item(b"keyclave/local/1") + item(self.name) + item(MESSAGE_ID) + item(encoded)
        out = hmac.new(key, b"\0\0\0\1" + info, "sha512").digest()
        self.body_key, self.commitment = out[:32], out[32:]
        self.aad = item(b"keyclave/local-aad/1") + item(self.name) + item(MESSAGE_ID) + item(encoded) + item(self.commitment)

    def header(self, wrapped: bytes = WRAPPED) -> bytes:
        """Return the header."""
        return b"KCL\x01" + self.name + len(wrapped).to_bytes(2, "big") + wrapped + MESSAGE_ID + self.commitment

    def seal(self, number: int, final: bool, plaintext: bytes) -> bytes:
        """Return one sealed chunk."""
        nonce = bytes(7) + number.to_bytes(4, "big") + bytes([final])
        return AESGCM(self.body_key).encrypt(nonce, plaintext, self.aad)

    def chunks(self, plaintext: bytes) -> list[bytes]:
        """Return the sealed chunks of a plaintext."""
        size = 1 << self.chunk if self.chunk else max(1, len(plaintext))
        pieces = [plaintext[at : at + size] for at in range(0, len(plaintext), size)] or [b""]
        return [self.seal(number, number == len(pieces) - 1, piece) for number, piece in enumerate(pieces)]


def vector(maker: Maker, expect: str, flag: str, plaintext: bytes | None, thing: bytes, key: bytes = DATA_KEY) -> str:
    """Return the lines of one vector; `plaintext` is what a reader ends up with (None: nothing)."""
    lines = [f"expect: {expect}", f"flag: {flag}", f"data-key: {key.hex()}", f"message-id: {MESSAGE_ID.hex()}"]
    lines += [f"context: {name}={value}" for name, value in maker.context.items()]
    if maker.chunk:
        lines.append(f"chunk: {maker.chunk}")
    if plaintext is not None:
        repeated = len(plaintext) > 64 and len(set(plaintext)) == 1
        lines.append(f"plaintext-repeat: {plaintext[0]:02x} {len(plaintext)}" if repeated else f"plaintext: {plaintext.hex()}")
        lines.append(f"plaintext-sha256: {hashlib.sha256(plaintext).hexdigest()}")
    lines.append(f"object: {thing.hex()}" if len(thing) < 40_000 else f"object-sha256: {hashlib.sha256(thing).hexdigest()}")
    return "\n".join(lines) + "\n"


def bytes_form() -> list[str]:
    """Return the vectors of the bytes form."""
    maker, text = Maker(), b"Bundle/resource[0]: Patient, born 1962-05-01"
    good = maker.header() + maker.seal(0, True, text)
    bare = Maker(context={})
    foreign = Maker(key=fixed("another data key", 32))
    swapped = Maker(context={"patient": "p-18", "purpose": "treatment", "région": "Île-de-France"})
    return [
        vector(maker, "success", "a short message", text, good),
        vector(maker, "success", "empty message", b"", maker.header() + maker.seal(0, True, b"")),
        vector(bare, "success", "empty context", text, bare.header() + bare.seal(0, True, text)),
        vector(maker, "success", "rewrapped under a newer key version: only the wrapped key differs", text,
               maker.header(REWRAPPED) + maker.seal(0, True, text)),
        vector(maker, "success", "wrapped key of another maker", text, maker.header(b"\x01") + maker.seal(0, True, text)),
        vector(swapped, "undecipherable", "another patient's context", None, good),
        vector(maker, "undecipherable", "foreign data key: the commitment differs", None, good, foreign.key),
        vector(maker, "undecipherable", "foreign data key, with its own commitment put in: the tag is wrong", None,
               foreign.header() + maker.seal(0, True, text), foreign.key),
        vector(maker, "undecipherable", "format 2", None, good[:3] + b"\x02" + good[4:]),
        vector(maker, "undecipherable", "unknown suite", None, good[:4] + b"\x02" + good[5:]),
        vector(maker, "undecipherable", "unknown kind", None, good[:5] + b"\x03" + good[6:]),
        vector(maker, "undecipherable", "a chunk size in the bytes form", None, good[:6] + b"\x0c" + good[7:]),
        vector(maker, "undecipherable", "no wrapped key", None, maker.header(b"") + maker.seal(0, True, text)),
        vector(maker, "undecipherable", "sealed as not final", None, maker.header() + maker.seal(0, False, text)),
        vector(maker, "undecipherable", "tag cut off", None, good[:-16]),
        vector(maker, "undecipherable", "a byte added", None, good + b"\x00"),
        vector(maker, "undecipherable", "header alone", None, maker.header()),
        vector(maker, "undecipherable", "cut in the commitment", None, maker.header()[:-1]),
    ]  # fmt: skip


def stream_form() -> list[str]:
    """Return the vectors of the stream form, with the smallest chunks."""
    maker, size = Maker(CHUNK), 1 << CHUNK
    head, text = maker.header(), b"\x5a" * (2 * size + 100)
    one, two, three = maker.chunks(text)
    found = [
        vector(maker, "success", f"{length} bytes", b"\x5a" * length, head + b"".join(maker.chunks(b"\x5a" * length)))
        for length in (0, 1, size - 1, size, size + 1, 2 * size, 2 * size + 100, 64 * size)
    ]
    small = Maker(11)
    large = Maker(25)
    cut = "cut short"
    attacks = [
        (cut, "last chunk missing: cut at a chunk boundary", text[:size], one + two),
        (cut, "cut inside the last chunk", text[: 2 * size], one + two + three[:-1]),
        ("undecipherable", "two chunks exchanged", None, two + one + three),
        (cut, "a chunk doubled", text[:size], one + one + two + three),
        (cut, "a chunk left out", text[:size], one + three),
        (cut, "a byte added", text[: 2 * size], one + two + three + b"\x00"),
        (cut, "a chunk added behind the last", text[: 2 * size], one + two + three + maker.seal(3, True, b"more")),
        (cut, "the last chunk put in the middle", text[:size], one + maker.seal(1, True, text[:size]) + three),
        (cut, "an empty last chunk after a full one: a second encoding of the same data", text[:size],
         maker.seal(0, False, text[:size]) + maker.seal(1, True, b"")),
        (cut, "a short chunk in the middle", text[:size], one + maker.seal(1, False, b"short") + maker.seal(2, True, b"end")),
        ("undecipherable", "no chunk at all", None, b""),
        ("undecipherable", "less than a tag", None, one[:15]),
        ("undecipherable", "counted from one", None, maker.seal(1, True, b"alone")),
    ]  # fmt: skip
    found += [vector(maker, expect, flag, plaintext, head + body) for expect, flag, plaintext, body in attacks]
    found.append(vector(small, "undecipherable", "chunks of 2 KiB", None, small.header() + small.seal(0, True, b"x")))
    found.append(vector(large, "undecipherable", "chunks of 32 MiB", None, large.header() + large.seal(0, True, b"x")))
    larger = head[:6] + bytes([CHUNK + 1]) + head[7:]
    found.append(vector(maker, "undecipherable", "another chunk size in the header", None, larger + one + two + three))
    return found


def main() -> None:
    """Write both files."""
    note = "# Vectors of spec/local-envelope.md, which explains the lines. Written by make.py from that page.\n\n"
    (HERE / "bytes.txt").write_text(note + "\n".join(bytes_form()), encoding="utf-8")
    (HERE / "stream.txt").write_text(note + "\n".join(stream_form()), encoding="utf-8")


if __name__ == "__main__":
    main()
