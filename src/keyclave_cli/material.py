"""Reading key material from a file, into memory that can be wiped."""

from __future__ import annotations

import binascii
import re
import sys

from keyclave_cli.problems import USAGE, Stop

_LARGEST = 16_384  # bytes: RSA-4096 in PEM is 3,300
_PEM = re.compile(rb"-----BEGIN ([A-Z ]+)-----\s+([A-Za-z0-9+/=\s]+)-----END \1-----\s*")


def read_material(path: str, *, in_hex: bool) -> bytearray:
    """Return the key's bytes: raw, from hexadecimal text, or the DER inside a PEM block."""
    if path == "-":
        raw = bytearray(sys.stdin.buffer.read(_LARGEST + 1))
    else:
        with open(path, "rb", buffering=0) as file:
            raw = bytearray(file.read(_LARGEST + 1))
    if not raw or len(raw) > _LARGEST:
        raise Stop(f"{path} does not hold a key", f"a key has 1 to {_LARGEST:,} bytes")
    try:
        if in_hex:
            return bytearray(binascii.unhexlify(bytes(raw).strip()))
        return _of_pem(path, raw) if raw.lstrip().startswith(b"-----BEGIN ") else bytearray(raw)
    except ValueError:
        raise Stop(f"{path} is not what it seems", "check that it is whole, and whether --hex is right") from None
    finally:
        raw[:] = bytes(len(raw))


def _of_pem(path: str, raw: bytearray) -> bytearray:
    match = _PEM.fullmatch(bytes(raw).strip())
    if match is None or match[1] != b"PRIVATE KEY":
        kind = match[1].decode() if match else "not one whole block"
        hint = "convert it to unencrypted PKCS #8 (BEGIN PRIVATE KEY), for instance with `openssl pkcs8 -topk8 -nocrypt`"
        raise Stop(f"{path}: this PEM is {kind}", hint, USAGE)
    return bytearray(binascii.a2b_base64(match[2]))
