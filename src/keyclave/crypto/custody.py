"""A share on its way to its custodian: sealed to a P-384 key (HPKE, RFC 9180) or to a passphrase (PBKDF2, SP 800-132).

The file is text: what it is, for which set and number, and the sealed share in base64 (spec/shares.md, "A protected share").
Head and share are bound to each other, so a file cannot be passed off as another custodian's.
"""

from __future__ import annotations

import base64
import re
from typing import NamedTuple

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from keyclave.core.canonical import canonical
from keyclave.core.errors import Malformed, Undecipherable
from keyclave.crypto.arena import Slot
from keyclave.crypto.heap import wipe_bytes
from keyclave.crypto.module import CryptoModule
from keyclave.crypto.shares import Share

_BEGIN, _END = "-----BEGIN KEYCLAVE SHARE-----", "-----END KEYCLAVE SHARE-----"
_KEYED, _PHRASED = "hpke-p384-hkdf-sha384-aes256gcm", "pbkdf2-hmac-sha256-aes256gcm"
ITERATIONS = 1_000_000
_LEAST_ITERATIONS, _MOST_ITERATIONS = 600_000, 10_000_000
_SALT = 16
_LONGEST = 16 * 1024
_FILE = re.compile(
    rf"\s*{_BEGIN}\nalgorithm: ([a-z0-9-]{{1,40}})\nset: ([0-9a-f]{{8}})\nshare: ([0-9]{{1,2}})\n"
    rf"(?:iterations: ([0-9]{{1,9}})\n)?\n([A-Za-z0-9+/=\n]{{1,8192}})\n{_END}\s*"
)
_HPKE = Suite(KEM.P384, KDF.HKDF_SHA384, AEAD.AES_256_GCM)


class _Sealed(NamedTuple):
    """A protected share, taken apart."""

    algorithm: str
    set_id: bytes
    number: int
    iterations: int
    sealed: bytes

    def info(self) -> bytes:
        """Return what the sealing is bound to."""
        fields = (self.algorithm, self.set_id, self.number)
        return canonical("keyclave/share-custody/1", *fields, *((self.iterations,) if self.iterations else ()))

    def armour(self) -> str:
        """Return the file's text."""
        text = base64.b64encode(self.sealed).decode()
        lines = "\n".join(text[i : i + 64] for i in range(0, len(text), 64))
        more = f"iterations: {self.iterations}\n" if self.iterations else ""
        head = f"algorithm: {self.algorithm}\nset: {self.set_id.hex()}\nshare: {self.number}\n{more}"
        return f"{_BEGIN}\n{head}\n{lines}\n{_END}\n"


def protect_to_key(share: Share, public_pem: bytes) -> str:
    """Seal a share to a custodian's P-384 public key (PEM, SubjectPublicKeyInfo)."""
    try:
        key = load_pem_public_key(public_pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise Malformed(
            "this is not a P-384 public key in PEM", "make one: openssl ecparam -name secp384r1 -genkey | openssl ec -pubout"
        )
    file = _Sealed(_KEYED, share.set_id, share.index, 0, b"")
    return file._replace(sealed=_HPKE.encrypt(share.to_text().encode(), key, info=file.info())).armour()


def open_with_key(text: str, private_pem: bytes, password: bytes | None = None) -> Share:
    """Open a share with the custodian's private key (PEM, PKCS #8; `password` where the PEM is encrypted)."""
    file = _parse(text, _KEYED)
    try:
        key = load_pem_private_key(private_pem, password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise Malformed(
            "this is not a P-384 private key in PEM, or its password is another one",
            "use the key whose public half was given at the ceremony",
        )
    try:
        plain = _HPKE.decrypt(file.sealed, key, info=file.info())
    except (InvalidTag, ValueError):
        raise Undecipherable from None
    share = _share(plain, file)
    wipe_bytes(plain)
    return share


def protect_to_passphrase(module: CryptoModule, share: Share, passphrase: str) -> str:
    """Seal a share under a passphrase."""
    salt = module.random(_SALT)
    file = _Sealed(_PHRASED, share.set_id, share.index, ITERATIONS, b"")
    with _stretched(passphrase, salt, ITERATIONS) as key:
        return file._replace(sealed=salt + module.seal(key, share.to_text().encode(), file.info())).armour()


def open_with_passphrase(module: CryptoModule, text: str, passphrase: str) -> Share:
    """Open a share with its passphrase."""
    file = _parse(text, _PHRASED)
    if not _LEAST_ITERATIONS <= file.iterations <= _MOST_ITERATIONS:
        raise Malformed(f"{file.iterations} iterations are not what Keyclave writes", "the file was altered: use another copy")
    salt, sealed = file.sealed[:_SALT], file.sealed[_SALT:]
    with _stretched(passphrase, salt, file.iterations) as key, module.open_slot(key, sealed, file.info()) as plain:
        return _share(plain.view(), file)


def _stretched(passphrase: str, salt: bytes, iterations: int) -> Slot:
    key = Slot(32)
    kdf = PBKDF2HMAC(algorithm=hashes.SHA256(), length=32, salt=salt, iterations=iterations)
    kdf.derive_into(passphrase.encode(), key.view())
    return key


def _parse(text: str, algorithm: str) -> _Sealed:
    match = _FILE.fullmatch(text.replace("\r\n", "\n")) if len(text) <= _LONGEST else None
    if match is None:
        raise Malformed("this is not a protected share", f"the file begins with {_BEGIN}")
    if match[1] != algorithm:
        opener = {_KEYED: "its custodian's private key", _PHRASED: "its passphrase"}.get(match[1], "a newer Keyclave")
        raise Malformed(f"this share is protected by {match[1]}", f"open it with {opener}")
    try:
        sealed = base64.b64decode(match[5].replace("\n", ""), validate=True)
    except ValueError:
        raise Malformed("the protected share is damaged", "use another copy") from None
    return _Sealed(algorithm, bytes.fromhex(match[2]), int(match[3]), int(match[4] or 0), sealed)


def _share(plain: bytes | memoryview, file: _Sealed) -> Share:
    """Read the share that was sealed. It opened, so what it says was written by whoever sealed it; it must still say the same."""
    share = Share.from_text(str(plain, "ascii", "replace"))
    if (share.set_id, share.index) != (file.set_id, file.number):
        share.wipe()
        raise Malformed("the file's head names another share than it holds", "use another copy")
    return share
