"""Writes the share vectors from spec/shares.md alone: standard library, logarithm tables, big numbers; nothing of Keyclave.

    python vectors/shares/make.py

Everything is derived from fixed bytes, so running it again changes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

HERE = Path(__file__).parent
DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

# 3 generates the field's 255 units: a way to multiply that shares nothing with shifting
POWERS = [1]
while len(POWERS) < 255:
    last = POWERS[-1]
    doubled = last << 1 ^ (0x11B if last & 0x80 else 0)
    POWERS.append(doubled ^ last)
LOGARITHM = {power: exponent for exponent, power in enumerate(POWERS)}


def times(a: int, b: int) -> int:
    return POWERS[(LOGARITHM[a] + LOGARITHM[b]) % 255] if a and b else 0


def power(x: int, n: int) -> int:
    result = 1
    for _ in range(n):
        result = times(result, x)
    return result


def fixed(label: str, count: int) -> bytes:
    return hashlib.shake_256(b"keyclave share vector " + label.encode()).digest(count)


def cut(label: str, secret: bytes, threshold: int, count: int) -> dict[int, bytes]:
    drawn = fixed(label + " coefficients", len(secret) * (threshold - 1))
    values = {}
    for x in range(1, count + 1):
        value = bytearray(secret)
        for at in range(len(secret)):
            for n in range(1, threshold):
                value[at] ^= times(drawn[at * (threshold - 1) + n - 1], power(x, n))
        values[x] = bytes(value)
    return values


def text(set_id: bytes, threshold: int, index: int, value: bytes, version: int = 1, checksum: bytes | None = None) -> str:
    body = bytes((version,)) + set_id + bytes((threshold, index)) + value
    raw = body + (hashlib.sha256(b"keyclave/share/1" + body).digest()[:4] if checksum is None else checksum)
    bits = "".join(f"{byte:08b}" for byte in raw)
    bits += "0" * (-len(bits) % 5)
    digits = "".join(DIGITS[int(bits[i : i + 5], 2)] for i in range(0, len(bits), 5))
    return "kcs1-" + "-".join(digits[i : i + 5] for i in range(0, len(digits), 5))


def check(secret: bytes) -> str:
    return hmac.digest(secret, b"keyclave/key-check/1", "sha256")[:4].hex()


def vector(note: str, expect: str, given: str, shares: list[str], secret: bytes | None = None) -> str:
    lines = [f"flag: {note}", f"expect: {expect}", f"check: {given}", *(f"share: {share}" for share in shares)]
    return "\n".join(lines + ([f"secret: {secret.hex()}"] if secret is not None else []))


def write(name: str, head: str, vectors: list[str]) -> None:
    (HERE / f"{name}.txt").write_text(f"# {head}\n\n" + "\n\n".join(vectors) + "\n")


def whole_sets() -> None:
    vectors = []
    for threshold, count, length in ((2, 2, 1), (2, 3, 16), (3, 5, 32), (5, 8, 32), (16, 16, 64), (1, 1, 32)):
        label = f"{threshold} of {count}, {length} bytes"
        secret, set_id = fixed(label, length), fixed(label + " set", 4)
        values = cut(label, secret, threshold, count)
        first = [text(set_id, threshold, x, values[x]) for x in range(1, threshold + 1)]
        last = [text(set_id, threshold, x, values[x]) for x in range(count, count - threshold, -1)]
        vectors.append(vector(f"{label}: the first ones", "success", check(secret), first, secret))
        if count > threshold:
            vectors.append(vector(f"{label}: the last ones, backwards", "success", check(secret), last, secret))
            every = [text(set_id, threshold, x, values[x]) for x in values]
            vectors.append(vector(f"{label}: more than needed", "success", check(secret), every, secret))
    write(
        "sets", "Shares that give a secret. Letter case, dashes and look-alike letters do not matter: see spellings.txt.", vectors
    )


def spellings(shares: list[str], secret: bytes) -> None:
    two = shares[:2]
    written = {
        "lower case": [s.lower() for s in two],
        "no dashes": [s[:4] + s[5:].replace("-", "") for s in two],
        "spaces and line ends": [s.replace("-", " ", 4).replace("-", "\u2013") + "  " for s in two],
        "O for 0, I and L for 1": [s.replace("0", "O").replace("1", "l") for s in two],
        "i for 1": [s.replace("1", "i") for s in two],
    }
    write(
        "spellings",
        "The same two shares, as people write them.",
        [vector(note, "success", check(secret), given, secret) for note, given in written.items()],
    )


def refused(set_id: bytes, values: dict[int, bytes], secret: bytes, shares: list[str]) -> None:
    other = text(fixed("other set", 4), 2, 2, fixed("other value", 32))
    one, two = shares[:2]
    middle = len(one) // 2
    wrong = one[:middle] + DIGITS[(DIGITS.index(one[middle]) + 1) % 32] + one[middle + 1 :] if one[middle] != "-" else ""
    spare = one[:-1] + DIGITS[DIGITS.index(one[-1]) | 1]
    bad = {
        "a wrong digit": ("typing", [wrong, two]),
        "two digits exchanged": ("typing", [one[:6] + one[7] + one[6] + one[8:], two]),
        "the last group is missing": ("typing", [one.rpartition("-")[0], two]),
        "a digit too many": ("typing", [one + "0", two]),
        "spare bits that are not zero": ("typing", [spare, two]),
        "nothing behind the mark": ("typing", ["kcs1-", two]),
        "a wrong checksum": ("typing", [text(set_id, 2, 1, values[1], checksum=bytes(4)), two]),
        "U is no digit": ("character", [one[:-1] + "U", two]),
        "another mark": ("mark", ["kcs2-" + one[5:], two]),
        "version 2": ("version", [text(set_id, 2, 1, values[1], version=2), two]),
        "threshold 0": ("kind", [text(set_id, 0, 1, values[1]), two]),
        "threshold 17": ("kind", [text(set_id, 17, 1, values[1]), two]),
        "index 0, which would be the secret": ("kind", [text(set_id, 2, 0, values[1]), two]),
        "index 17": ("kind", [text(set_id, 2, 17, values[1]), two]),
        "no value": ("kind", [text(set_id, 2, 1, b""), two]),
        "a value of 65 bytes": ("kind", [text(set_id, 2, 1, bytes(65)), two]),
        "one too few": ("missing 1", [one]),
        "none": ("missing 0", []),
        "the same share twice": ("twice", [one, one]),
        "a share of another set": ("sets", [one, other]),
        "another threshold in the same set": ("sets", [one, text(set_id, 3, 2, values[2])]),
        "another length in the same set": ("sets", [one, text(set_id, 2, 2, values[2][:31])]),
        "a value that was altered": ("key", [one, text(set_id, 2, 2, bytes((values[2][0] ^ 1,)) + values[2][1:])]),
        "an index that was altered": ("key", [one, text(set_id, 2, 3, values[2])]),
    }
    vectors = [vector(note, f"failure: {kind}", check(secret), given) for note, (kind, given) in bad.items()]
    vectors.append(vector("the key-check value of another secret", "failure: key", check(b"another"), [one, two]))
    kinds = (
        "What a reader refuses. The word behind `failure:` says why: typing, character, mark, version, kind (no share that a writer\n"
        "# makes), missing N (more are needed; 0: there is none), twice, sets (they do not belong together), key (not this secret)."
    )
    write("refused", kinds, vectors)


def main() -> None:
    whole_sets()
    label = "refused"
    secret, set_id = fixed(label, 32), fixed(label + " set", 4)
    values = cut(label, secret, 2, 3)
    shares = [text(set_id, 2, x, values[x]) for x in values]
    spellings(shares, secret)
    refused(set_id, values, secret, shares)


if __name__ == "__main__":
    main()
