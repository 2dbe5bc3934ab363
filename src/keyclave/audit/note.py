"""Signed notes (C2SP signed-note v1.0.0) with the signature types the log uses, and their verifier keys.

    type  what is signed                                              payload after the 4-byte key id
    0x01  Ed25519 over the note's text                                signature (64)
    0x04  Ed25519 cosignature, timestamped (tlog-cosignature v1.0.1)  POSIX seconds (8), signature (64)
    0x06  ML-DSA-44 cosignature, timestamped (v1.1.0-rc.1)            POSIX seconds (8), signature (2,420)

A key id is short and no security boundary: it only says which known key to try. This room computes no signature itself: the log's
`Signer` and a `Verifier` are handed in.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from keyclave.core.errors import InvalidSignature, Malformed
from keyclave.crypto.digest import sha256

ED25519 = 0x01
ED25519_COSIGNATURE = 0x04
MLDSA44_COSIGNATURE = 0x06
PUBLIC_BYTES = {ED25519: 32, ED25519_COSIGNATURE: 32, MLDSA44_COSIGNATURE: 1312}
SIGNATURE_BYTES = {ED25519: 64, ED25519_COSIGNATURE: 64, MLDSA44_COSIGNATURE: 2420}
_TIME = 8  # bytes of a cosignature's timestamp
_KEY_ID = 4
_DASH = "\u2014 "  # an em dash and a space begin each signature line
_MOST_SIGNATURES = 64  # a note with more is refused: each costs a verification
_SUBTREE = b"subtree/v1\n\x00"


class Signer(Protocol):
    """The log's two keys."""

    def public_ed25519(self) -> bytes:
        """Return the raw public key: 32 bytes."""
        ...

    def public_mldsa44(self) -> bytes:
        """Return the raw public key: 1,312 bytes."""
        ...

    def sign_ed25519(self, message: bytes) -> bytes:
        """Return the signature: 64 bytes."""
        ...

    def sign_mldsa44(self, message: bytes) -> bytes:
        """Return the signature (FIPS 204, pure, empty context): 2,420 bytes."""
        ...


class Verifier(Protocol):
    """Verification by raw public keys; a signature that does not hold raises `InvalidSignature`."""

    def verify_ed25519(self, public: bytes, message: bytes, signature: bytes) -> None: ...

    def verify_mldsa44(self, public: bytes, message: bytes, signature: bytes) -> None: ...


class VerifierKey(NamedTuple):
    """A public key with the name that signs; `str()` is its vkey, the form in which people exchange it."""

    name: str
    type: int
    public: bytes

    @property
    def id(self) -> bytes:
        """Return the key id: 4 bytes."""
        return key_id(self.name, self.type, self.public)

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{encode_base64(bytes([self.type]) + self.public)}"


class Signature(NamedTuple):
    """A signature line: who says to have signed, by which key, and the bytes after the key id."""

    name: str
    key_id: bytes
    payload: bytes

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {encode_base64(self.key_id + self.payload)}\n"


class Note(NamedTuple):
    """A text that ends in a newline, and the signatures under it."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return self.text + "\n" + "".join(map(str, self.signatures))


def encode_base64(data: bytes) -> str:
    """Return standard base64 with padding."""
    return base64.b64encode(data).decode()


def decode_base64(text: str) -> bytes:
    """Decode standard base64 with padding. One spelling only: spare bits that are set, or a missing pad, are `Malformed`."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("this is not base64", "use the standard alphabet with padding") from None
    if encode_base64(data) != text:
        raise Malformed("this base64 has bits to spare", "encode it again")
    return data


def check_name(name: str) -> str:
    """Return `name` if it can name a key and a log: 1 to 255 bytes, no space, no plus, no control character; else `Malformed`."""
    if not 0 < len(name.encode()) <= 255 or "+" in name or any(c.isspace() or ord(c) < 0x20 for c in name):
        raise Malformed(f"{name!r} cannot name a log", "take a host and path without scheme, such as kms.hospital.example/audit")
    return name


def key_id(name: str, kind: int, public: bytes) -> bytes:
    """Return the 4 bytes that name a key in a signature line."""
    return sha256(name.encode() + b"\n" + bytes([kind]) + public)[:_KEY_ID]


def parse_vkey(text: str) -> VerifierKey:
    """Read `<name>+<hex key id>+<base64 of type and key>`. An id that does not fit, or an unknown type, is `Malformed`."""
    name, _, rest = text.partition("+")
    hexed, _, encoded = rest.partition("+")  # base64 may hold further plus signs
    data = decode_base64(encoded)
    if not data or PUBLIC_BYTES.get(data[0]) != len(data) - 1:
        raise Malformed("this verifier key is of no type known here", "use Ed25519 (1, 4) or ML-DSA-44 (6)")
    key = VerifierKey(check_name(name), data[0], data[1:])
    if hexed != key.id.hex():
        raise Malformed("the id of this verifier key does not fit the key", "copy it again, whole")
    return key


def signer_keys(name: str, signer: Signer) -> tuple[VerifierKey, VerifierKey]:
    """Return the verifier keys under which `signer` signs as `name`: Ed25519 and ML-DSA-44."""
    check_name(name)
    return (
        VerifierKey(name, ED25519, signer.public_ed25519()),
        VerifierKey(name, MLDSA44_COSIGNATURE, signer.public_mldsa44()),
    )


def ed25519_cosigned(seconds: int, text: str) -> bytes:
    """Return what an Ed25519 cosigner signs: the whole note's text, headed by the time."""
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()


def mldsa44_cosigned(cosigner: str, seconds: int, origin: str, start: int, end: int, root: bytes) -> bytes:
    """Return what an ML-DSA-44 cosigner signs: the subtree of leaves `start` to `end`; a checkpoint is 0 to its size."""
    name, log = cosigner.encode(), origin.encode()
    out = [_SUBTREE, bytes([len(name)]), name, seconds.to_bytes(8, "big"), bytes([len(log)]), log]
    return b"".join([*out, start.to_bytes(8, "big"), end.to_bytes(8, "big"), root])


def parse_note(text: str) -> Note:
    """Read a signed note. Nothing is verified. `Malformed` says what is wrong with it."""
    if any(ord(c) < 0x20 and c != "\n" for c in text):
        raise Malformed("the note holds a control character", "fetch it again")
    cut = text.rfind("\n\n")
    if cut < 0 or not text.endswith("\n"):
        raise Malformed("the note has no empty line before its signatures, or does not end in a newline", "fetch it again")
    lines = text[cut + 2 : -1].split("\n")
    if len(lines) > _MOST_SIGNATURES:
        raise Malformed(f"the note has more than {_MOST_SIGNATURES} signatures", "ask for one with fewer cosigners")
    return Note(text[: cut + 1], tuple(_signature(line) for line in lines))


def _signature(line: str) -> Signature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not name:
        raise Malformed("a signature line is not an em dash, a name and base64", "fetch the note again")
    data = decode_base64(encoded)
    if len(data) <= _KEY_ID:
        raise Malformed("a signature line holds no signature", "fetch the note again")
    return Signature(check_name(name), data[:_KEY_ID], data[_KEY_ID:])


def verify_note(note: Note, keys: Iterable[VerifierKey], verifier: Verifier, tree: tuple[str, int, bytes]) -> None:
    """Check that every one of `keys` signed the note; `tree` is the (origin, size, root) its text states.

    Signatures by other keys are ignored, also when only the name or only the id is the same. `InvalidSignature` when one of
    `keys` did not sign, or any of its signatures does not hold.
    """
    for key in keys:
        lines = [s for s in note.signatures if (s.name, s.key_id) == (key.name, key.id)]
        if not lines:
            raise InvalidSignature
        for line in lines:
            _verify(line.payload, note.text, key, verifier, tree)


def _verify(payload: bytes, text: str, key: VerifierKey, verifier: Verifier, tree: tuple[str, int, bytes]) -> None:
    timed = key.type != ED25519
    if len(payload) != SIGNATURE_BYTES[key.type] + (_TIME if timed else 0):
        raise InvalidSignature
    if not timed:
        verifier.verify_ed25519(key.public, text.encode(), payload)
        return
    seconds, signature = int.from_bytes(payload[:_TIME], "big"), payload[_TIME:]
    if key.type == ED25519_COSIGNATURE:
        verifier.verify_ed25519(key.public, ed25519_cosigned(seconds, text), signature)
    else:
        origin, size, root = tree
        verifier.verify_mldsa44(key.public, mldsa44_cosigned(key.name, seconds, origin, 0, size, root), signature)
