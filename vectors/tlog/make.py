"""Writes log-300.txt and proofs.txt, from RFC 6962 and the C2SP pages alone: nothing of Keyclave is imported.

    python vectors/tlog/make.py

It follows the recursive definitions, slowly, so that vectors and code do not share a mistake. Everything in it is fixed: running
it again gives the same files, which a test holds.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HERE = Path(__file__).parent
NAME = "keyclave.example/log"
SEED = bytes(range(32))
LEAVES = [b"event %d" % number for number in range(300)]


def sha256(data: bytes) -> bytes:
    """Return SHA-256."""
    return hashlib.sha256(data).digest()


def b64(data: bytes) -> str:
    """Return base64."""
    return base64.b64encode(data).decode()


def split(count: int) -> int:
    """Return the largest power of two smaller than `count`."""
    power = 1
    while power * 2 < count:
        power *= 2
    return power


def root(leaves: list[bytes]) -> bytes:
    """Return the Merkle tree hash (RFC 6962 section 2.1)."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0])
    middle = split(len(leaves))
    return sha256(b"\1" + root(leaves[:middle]) + root(leaves[middle:]))


def inclusion(index: int, leaves: list[bytes]) -> list[bytes]:
    """Return PATH(m, D[n]) (RFC 6962 section 2.1.1)."""
    if len(leaves) == 1:
        return []
    middle = split(len(leaves))
    if index < middle:
        return [*inclusion(index, leaves[:middle]), root(leaves[middle:])]
    return [*inclusion(index - middle, leaves[middle:]), root(leaves[:middle])]


def consistency(old: int, leaves: list[bytes], *, whole: bool = True) -> list[bytes]:
    """Return SUBPROOF(m, D[n], b) (RFC 6962 section 2.1.2)."""
    if old == len(leaves):
        return [] if whole else [root(leaves)]
    middle = split(len(leaves))
    if old <= middle:
        return [*consistency(old, leaves[:middle], whole=whole), root(leaves[middle:])]
    return [*consistency(old - middle, leaves[middle:], whole=False), root(leaves[:middle])]


def checkpoint(size: int) -> str:
    """Return the signed checkpoint: origin, size, root, an empty line, the Ed25519 signature."""
    key = Ed25519PrivateKey.from_private_bytes(SEED)
    public = key.public_key().public_bytes_raw()
    text = f"{NAME}\n{size}\n{b64(root(LEAVES[:size]))}\n"
    key_id = sha256(NAME.encode() + b"\n\x01" + public)[:4]
    return f"{text}\n\u2014 {NAME} {b64(key_id + key.sign(text.encode()))}\n"


def vkey() -> str:
    """Return the verifier key."""
    public = b"\x01" + Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()
    key_id = sha256(NAME.encode() + b"\n" + public)[:4]
    return f"{NAME}+{key_id.hex()}+{b64(public)}"


def files() -> dict[str, bytes]:
    """Return the files of the log at 300 leaves."""
    hashes = [sha256(b"\0" + leaf) for leaf in LEAVES]
    entries = [len(leaf).to_bytes(2, "big") + leaf for leaf in LEAVES]
    return {
        "checkpoint": checkpoint(300).encode(),
        "tile/0/000": b"".join(hashes[:256]),
        "tile/0/001.p/44": b"".join(hashes[256:]),
        "tile/1/000.p/1": root(LEAVES[:256]),
        "tile/entries/000": b"".join(entries[:256]),
        "tile/entries/001.p/44": b"".join(entries[256:]),
    }


def log_text() -> str:
    """Return log-300.txt."""
    lines = [
        "# A log of 300 entries, the ASCII strings `event 0` to `event 299`. Written by make.py.",
        "#",
        "# seed: private Ed25519 seed, hex · root: size and root · checkpoint: its lines · file: path and SHA-256 of its bytes",
        "",
        "expect: success",
        f"name: {NAME}",
        f"seed: {SEED.hex()}",
        f"vkey: {vkey()}",
    ]
    lines += [f"root: {size} {b64(root(LEAVES[:size]))}" for size in (0, 1, 2, 3, 255, 256, 257, 300)]
    lines += [f"checkpoint: {line}".rstrip() for line in checkpoint(300).splitlines()]
    lines += [f"file: {path} {sha256(data).hex()}" for path, data in files().items()]
    return "\n".join(lines) + "\n"


def paragraph(expect: str, flag: str, *, proof: list[bytes], **fields: object) -> str:
    """Return one vector."""
    lines = [f"expect: {expect}", f"flag: {flag}", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())]
    return "\n".join([*lines, *(f"proof: {b64(node)}" for node in proof)]) + "\n"


def proof_texts() -> list[str]:
    """Return the vectors of proofs.txt: good ones, and the same with one thing wrong."""
    out = []
    for index, size in ((0, 1), (0, 2), (2, 3), (0, 256), (255, 256), (256, 257), (0, 300), (255, 300), (256, 300), (299, 300)):
        known = {"leaf": b64(sha256(b"\0" + LEAVES[index])), "index": index, "size": size, "root": b64(root(LEAVES[:size]))}
        proof = inclusion(index, LEAVES[:size])
        out.append(paragraph("success", f"inclusion of {index} in {size}", **known, proof=proof))
        out.append(paragraph("failure", "one hash too many", **known, proof=[*proof, bytes(32)]))
        out.append(paragraph("failure", "beyond the size", **{**known, "index": size}, proof=proof))
        out.append(paragraph("failure", "other leaf", **{**known, "leaf": b64(sha256(b"\0event 300"))}, proof=proof))
        if proof:
            out.append(paragraph("failure", "one hash short", **known, proof=proof[:-1]))
            out.append(paragraph("failure", "other place", **{**known, "index": index ^ 1}, proof=proof))
        if len(proof) > 1:
            out.append(paragraph("failure", "hashes in another order", **known, proof=proof[::-1]))
    for old, new in ((0, 5), (1, 1), (1, 2), (3, 7), (4, 7), (6, 8), (255, 256), (256, 257), (256, 300), (257, 300), (299, 300)):
        roots = {"old": old, "old_root": b64(root(LEAVES[:old])), "new": new, "new_root": b64(root(LEAVES[:new]))}
        proof = consistency(old, LEAVES[:new]) if old else []
        out.append(paragraph("success", f"consistency of {old} and {new}", **roots, proof=proof))
        out.append(paragraph("failure", "one hash too many", **roots, proof=[*proof, bytes(32)]))
        out.append(paragraph("failure", "other old root", **{**roots, "old_root": b64(bytes(32))}, proof=proof))
        if proof:
            out.append(paragraph("failure", "other new root", **{**roots, "new_root": b64(bytes(32))}, proof=proof))
            out.append(paragraph("failure", "one hash short", **roots, proof=proof[:-1]))
            out.append(paragraph("failure", "swapped sizes", **{**roots, "old": new, "new": old}, proof=proof))
    return out


def main(folder: Path = HERE) -> None:
    """Write both files."""
    (folder / "log-300.txt").write_text(log_text())
    head = "# Inclusion and consistency proofs in the log of log-300.txt, hashes in base64. Written by make.py.\n"
    (folder / "proofs.txt").write_text("\n".join([head, *proof_texts()]))


if __name__ == "__main__":
    main()
