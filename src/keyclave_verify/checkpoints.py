"""Checkpoints and the keys that must have signed them (C2SP signed-note, tlog-checkpoint, tlog-cosignature).

The policy is short: every key given must have signed. Signatures by other keys are ignored, also when only the name or only the
id is that of a given key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise

from keyclave_verify.reading import MEGABYTE, check_line_ends, decode_base64, fits, read_json, read_text
from keyclave_verify.report import Fault, Unusable

_TYPES = {0x01: ("Ed25519", 32, 64), 0x04: ("Ed25519 cosignature", 32, 72), 0x06: ("ML-DSA-44", 1312, 2428)}
_SIZE = re.compile("0|[1-9][0-9]{0,18}")
_MOST_SIGNATURES = 64


@dataclass(frozen=True)
class Key:
    """A verifier key: who signs, with what."""

    name: str
    type: int
    public: bytes

    @property
    def id(self) -> bytes:
        """Return the 4 bytes by which signature lines name it."""
        return sha256(self.name.encode() + b"\n" + bytes([self.type]) + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{_TYPES[self.type][0]} {self.id.hex()}"


@dataclass(frozen=True)
class Trust:
    """The log that is meant, and every key that must have signed its checkpoints."""

    origin: str
    keys: tuple[Key, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read; its signatures are (name, key id, payload)."""

    origin: str
    size: int
    root: bytes
    text: str
    signatures: tuple[tuple[str, bytes, bytes], ...]
    label: str  # what to call it in a fault

    def time(self, trust: Trust) -> int | None:
        """Return the POSIX seconds in the first timestamped signature by a trusted key; None when none states a time."""
        for key in trust.keys:
            for name, key_id, payload in self.signatures:
                if key.type != 0x01 and (name, key_id) == (key.name, key.id) and len(payload) > 8:
                    return int.from_bytes(payload[:8], "big") or None  # 0 claims no time (tlog-cosignature)
        return None


def show_time(seconds: int | None) -> str:
    """Return a time for people; one that no calendar reaches is shown as a number."""
    if seconds is None:
        return "no stated time"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"second {seconds}"


# ---- keys -----------------------------------------------------------------------------------------------------------------
def parse_vkey(text: str) -> Key:
    """Read `<name>+<hex id>+<base64>`; ValueError says what is wrong."""
    name, _, rest = text.partition("+")
    hexed, _, encoded = rest.partition("+")  # base64 may hold further plus signs
    data = decode_base64(encoded)
    if not name or not data or data[0] not in _TYPES or _TYPES[data[0]][1] != len(data) - 1:
        raise ValueError("a line of it is no Ed25519 or ML-DSA-44 verifier key: copy it again, whole")
    key = Key(name, data[0], data[1:])
    if key.id.hex() != hexed:
        raise ValueError(f"the id {hexed} of a key does not fit it: copy it again, whole")
    return key


def parse_trust(text: str) -> Trust:
    """Read keys: one a line with `#` comments, or the JSON {"origin", "vkeys"} of the server. The first key names the log.

    ValueError says what is wrong."""
    origin = ""
    if text.lstrip().startswith("{"):
        document = read_json(text)
        if not fits(document, {"origin": str, "vkeys": [str]}):
            raise ValueError('its JSON is not the server\'s {"origin", "vkeys"}: fetch it again, or give the keys one a line')
        origin, lines = document["origin"], document["vkeys"]
    else:
        lines = [line.strip(" \t\r") for line in text.split("\n")]
    keys = tuple(dict.fromkeys(parse_vkey(line) for line in lines if line and not line.startswith("#")))
    if not keys:
        raise ValueError("it holds no key: give the log's verifier keys, one a line")
    return Trust(origin or keys[0].name, keys)


def load_trust(given: str | bytes, path: str) -> Trust:
    """Read the keys an auditor trusts; what cannot be read is `Unusable`."""
    try:
        return parse_trust(given if isinstance(given, str) else read_text(given))
    except ValueError as error:
        raise Unusable(f"{path}: these verifier keys cannot be used: {error}") from None


# ---- checkpoints ----------------------------------------------------------------------------------------------------------
def parse_checkpoint(raw: bytes, label: str) -> Checkpoint:
    """Read a signed checkpoint; nothing is verified. A `Fault` says what is wrong with its form."""
    try:
        text, lines = _split_note(raw)
        stated = text[:-1].split("\n")
        if len(stated) != 3:
            raise ValueError(f"it states {len(stated)} lines, not origin, size and root alone: get one that nothing was added to")
        origin, size, root = stated
        if not origin or not _SIZE.fullmatch(size) or len(decode_base64(root)) != 32:
            raise ValueError("it does not state an origin, a size and a root: copy it again, whole")
        return Checkpoint(origin, int(size), decode_base64(root), text, tuple(map(_signature, lines)), label)
    except ValueError as error:
        raise Fault("signatures", "checkpoint_malformed", f"{label} is not a signed checkpoint: {error}") from None


def _split_note(raw: bytes) -> tuple[str, list[str]]:
    """Return the text of a signed note and its signature lines."""
    if not raw or len(raw) > MEGABYTE:
        raise ValueError("it is empty" if not raw else f"it is longer than {MEGABYTE:,} bytes")
    note = read_text(raw)
    check_line_ends(note)
    cut = note.rfind("\n\n")  # the text may hold empty lines: the last one ends it
    if cut < 0 or not note.endswith("\n") or any(ord(c) < 0x20 and c != "\n" for c in note):
        raise ValueError("it is not a signed note (text, an empty line, signature lines): copy it again, byte for byte")
    lines = note[cut + 2 : -1].split("\n")
    if len(lines) > _MOST_SIGNATURES:
        raise ValueError(f"it has {len(lines)} signature lines, and {_MOST_SIGNATURES} are read: leave out those of unknown keys")
    return note[: cut + 1], lines


def _signature(line: str) -> tuple[str, bytes, bytes]:
    parts = line.split(" ")
    data = decode_base64(parts[-1])
    if len(parts) != 3 or parts[0] != "\u2014" or not parts[1] or len(data) < 5:
        raise ValueError("a signature line is broken: copy it again, byte for byte")
    return parts[1], data[:4], data[4:]


def signature_faults(checkpoint: Checkpoint, trust: Trust) -> list[Fault]:
    """Return a fault for the wrong log, and for each trusted key that did not sign or whose signature does not verify."""
    if checkpoint.origin != trust.origin:
        detail = f"{checkpoint.label} is of the log {checkpoint.origin!r}, not of {trust.origin!r}"
        return [Fault("signatures", "wrong_log", detail)]
    faults = []
    for key in trust.keys:
        payloads = [payload for name, key_id, payload in checkpoint.signatures if (name, key_id) == (key.name, key.id)]
        if not payloads:
            detail = f"{checkpoint.label} carries no signature of {key.name} by its key {key}"
            faults.append(Fault("signatures", "signature_missing", detail))
        elif not all(_verifies(payload, key, checkpoint) for payload in payloads):
            detail = f"signature of {key.name} ({key}) on {checkpoint.label} does not verify"
            faults.append(Fault("signatures", "signature_invalid", detail))
    return faults


def order_faults(checkpoints: Iterable[Checkpoint], trust: Trust) -> list[Fault]:
    """Return a fault for each checkpoint that is dated before a smaller one."""
    dated = sorted((one.size, at, one.label) for one in checkpoints if (at := one.time(trust)) is not None)
    return [
        Fault("history", "checkpoint_order", f"{larger} is dated before the smaller {smaller}")
        for (size, before, smaller), (larger_size, after, larger) in pairwise(dated)
        if size < larger_size and after < before
    ]


def _verifies(payload: bytes, key: Key, checkpoint: Checkpoint) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

    if len(payload) != _TYPES[key.type][2]:
        return False
    time, signature = payload[:8], payload[8:]
    try:
        if key.type == 0x01:
            Ed25519PublicKey.from_public_bytes(key.public).verify(payload, checkpoint.text.encode())
        elif key.type == 0x04:
            message = f"cosignature/v1\ntime {int.from_bytes(time, 'big')}\n{checkpoint.text}"
            Ed25519PublicKey.from_public_bytes(key.public).verify(signature, message.encode())
        else:
            MLDSA44PublicKey.from_public_bytes(key.public).verify(signature, _subtree_message(key.name, time, checkpoint))
    except (InvalidSignature, ValueError):
        return False
    return True


def _subtree_message(cosigner: str, time: bytes, checkpoint: Checkpoint) -> bytes:
    """Return what ML-DSA-44 cosigners sign: the subtree from leaf 0 to the checkpoint's size (C2SP tlog-cosignature)."""
    name, origin = cosigner.encode(), checkpoint.origin.encode()
    if max(len(name), len(origin)) > 255:
        raise ValueError("a name over 255 bytes cannot be cosigned")
    head = b"subtree/v1\n\x00" + bytes([len(name)]) + name + time + bytes([len(origin)]) + origin
    return head + (0).to_bytes(8, "big") + checkpoint.size.to_bytes(8, "big") + checkpoint.root
