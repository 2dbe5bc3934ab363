"""Writes the envelope vectors from spec/envelope.md alone: standard library and AES-GCM, nothing of Keyclave.

    python vectors/envelope/make.py

Everything is derived from fixed bytes, so running it again changes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = Path(__file__).parent


def canonical(label: str, *fields: bytes) -> bytes:
    return b"".join(len(f).to_bytes(4, "big") + f for f in (label.encode(), *fields))


def context_bytes(context: dict[str, str]) -> bytes:
    entries = sorted((n.encode(), v.encode()) for n, v in context.items())
    return b"".join(len(n).to_bytes(4, "big") + n + len(v).to_bytes(4, "big") + v for n, v in entries)


def fixed(label: str, count: int) -> bytes:
    return hashlib.shake_256(b"keyclave envelope vector " + label.encode()).digest(count)


def seal(
    key: bytes, key_id: bytes, version: int, kind: int, mid: bytes, iv: bytes, plain: bytes, context: dict[str, str]
) -> bytes:
    info = canonical("keyclave/message/1", bytes((1, kind)), key_id, version.to_bytes(8, "big"), mid)
    derived = hmac.digest(key, b"\x00\x00\x00\x01" + info, "sha512")
    header = b"KC\x01\x01" + bytes((kind,)) + key_id + version.to_bytes(4, "big") + mid + derived[32:] + iv
    return header + AESGCM(derived[:32]).encrypt(iv, plain, canonical("keyclave/aad/1", header, context_bytes(context)))


def write(name: str, note: str, expect: str, envelope: bytes, plain: bytes, context: dict[str, str], key: bytes) -> None:
    lines = [
        f"note: {note}",
        f"expect: {expect}",
        f"key: {key.hex()}",
        f"context: {json.dumps(context, sort_keys=True)}",
        f"plaintext: {plain.hex()}",
        f"envelope: {envelope.hex()}",
    ]
    (HERE / f"{name}.txt").write_text("\n".join(lines) + "\n")


def main() -> None:
    key, key_id, mid, iv = fixed("key", 32), fixed("key id", 16), fixed("message id", 16), fixed("iv", 12)
    context = {"patient": "synthetic-17", "purpose": "treatment"}
    plain = b"Observation: heart rate 72 /min"
    good = seal(key, key_id, 1, 1, mid, iv, plain, context)
    write("message", "a message with a context", "success", good, plain, context, key)
    write("message-no-context", "the empty context", "success", seal(key, key_id, 1, 1, mid, iv, plain, {}), plain, {}, key)
    write("message-empty", "an empty plaintext", "success", seal(key, key_id, 1, 1, mid, iv, b"", context), b"", context, key)
    write(
        "wrapped-key",
        "a wrapped key",
        "success",
        seal(key, key_id, 7, 2, mid, iv, fixed("dek", 32), context),
        fixed("dek", 32),
        context,
        key,
    )
    part = (2).to_bytes(12, "big")
    write(
        "batch-part",
        "the second item of a batch",
        "success",
        seal(key, key_id, 1, 1, mid, part, plain, context),
        plain,
        context,
        key,
    )
    accents = {"étude": "x"}
    write(
        "context-sorted",
        "entries are sorted by bytes",
        "success",
        seal(key, key_id, 1, 1, mid, iv, plain, {"b": "ü", "a": "日本"}),
        plain,
        {"b": "ü", "a": "日本"},
        key,
    )
    write(
        "context-name-not-ascii",
        "a name outside printable ASCII is no context",
        "malformed",
        seal(key, key_id, 1, 1, mid, iv, plain, accents),
        plain,
        accents,
        key,
    )
    write("context-other", "another context", "undecipherable", good, plain, {**context, "patient": "synthetic-18"}, key)
    write("context-missing", "no context", "undecipherable", good, plain, {}, key)
    write(
        "key-other", "another key: the commitment does not match", "undecipherable", good, plain, context, fixed("other key", 32)
    )
    for name, at in {
        "magic": 0,
        "format": 2,
        "suite": 3,
        "kind": 4,
        "key-id": 5,
        "version": 24,
        "message-id": 25,
        "commitment": 41,
        "iv": 73,
        "ciphertext": 85,
        "tag": -1,
    }.items():
        bad = bytearray(good)
        bad[at] ^= 1
        write(f"flipped-{name}", f"one bit of the {name} is flipped", "undecipherable", bytes(bad), plain, context, key)
    for name, length in {"header": 60, "tag": len(good) - 1, "to-nothing": 0, "to-the-header": 85}.items():
        write(f"truncated-{name}", f"cut to {length} bytes", "undecipherable", good[:length], plain, context, key)
    write("extended", "one byte more", "undecipherable", good + b"\x00", plain, context, key)
    write(
        "kind-unknown",
        "kind 3, otherwise well made",
        "undecipherable",
        seal(key, key_id, 1, 3, mid, iv, plain, context),
        plain,
        context,
        key,
    )


if __name__ == "__main__":
    main()
