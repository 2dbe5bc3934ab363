"""A share on its way to its custodian: sealed to a P-384 key (HPKE, RFC 9180) or to a passphrase (PBKDF2, SP 800-132).

The file is text: what it is, for which set and number, and the sealed share in base64. The set and number are authenticated, so a
file cannot be passed off as another custodian's.
"""

from __future__ import annotations

import base64
import re

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from keyclave.core.canonical import canonical
from keyclave.core.errors import Malformed, Undecipherable
from keyclave.crypto.arena import Slot
from keyclave.crypto.module import CryptoModule
from keyclave.crypto.shares import Share

_BEGIN, _END = "-----BEGIN KEYCLAVE SHARE-----", "-----END KEYCLAVE SHARE-----"
_KEYED, _PHRASED = "hpke-p384-hkdf-sha384-aes256gcm", "pbkdf2-hmac-sha256-aes256gcm"
ITERATIONS = 1_000_000
_SALT = 16
_FILE = re.compile(
    rf"\s*{_BEGIN}\nalgorithm: ([a-z0-9-]{{1,40}})\nset: ([0-9a-f]{{8}})\nshare: ([0-9]{{1,2}})\n\n"
    rf"([A-Za-z0-9+/=\n]{{1,8192}})\n{_END}\s*"
)
_HPKE = Suite(KEM.P384, KDF.HKDF_SHA384, AEAD.AES_256_GCM)


def protect_to_key(share: Share, public_pem: bytes) -> str:
    """Seal a share to a custodian's P-384 public key."""
    try:
        key = load_pem_public_key(public_pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise Malformed(
            "this is not a P-384 public key in PEM", "make one: openssl ecparam -name secp384r1 -genkey | openssl ec -pubout"
        )
    return _armour(_KEYED, share, _HPKE.encrypt(share.to_text().encode(), key, info=_info(_KEYED, share.set_id, share.index)))


def open_with_key(text: str, private_pem: bytes) -> Share:
    """Open a share with the custodian's private key."""
    set_id, index, sealed = _parse(text, _KEYED)
    try:
        key = load_pem_private_key(private_pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise Malformed("this is not a P-384 private key in PEM", "use the one whose public half was given at the ceremony")
    try:
        plain = _HPKE.decrypt(sealed, key, info=_info(_KEYED, set_id, index))
    except (InvalidTag, ValueError):
        raise Undecipherable from None
    return _checked(Share.from_text(plain.decode()), set_id, index)


def protect_to_passphrase(module: CryptoModule, share: Share, passphrase: str) -> str:
    """Seal a share under a passphrase."""
    salt = module.random(_SALT)
    with _stretched(passphrase, salt) as key:
        sealed = module.seal(key, share.to_text().encode(), _info(_PHRASED, share.set_id, share.index))
    return _armour(_PHRASED, share, salt + sealed)


def open_with_passphrase(module: CryptoModule, text: str, passphrase: str) -> Share:
    """Open a share with its passphrase."""
    set_id, index, blob = _parse(text, _PHRASED)
    with (
        _stretched(passphrase, blob[:_SALT]) as key,
        module.open_slot(key, blob[_SALT:], _info(_PHRASED, set_id, index)) as plain,
    ):
        return _checked(Share.from_text(bytes(plain.view()).decode()), set_id, index)


def _stretched(passphrase: str, salt: bytes) -> Slot:
    key = Slot(32)
    PBKDF2HMAC(algorithm=hashes.SHA256(), length=32, salt=salt, iterations=ITERATIONS).derive_into(
        passphrase.encode(), key.view()
    )
    return key


def _info(algorithm: str, set_id: bytes, index: int) -> bytes:
    return canonical("keyclave/share-custody/1", algorithm, set_id, index)


def _armour(algorithm: str, share: Share, sealed: bytes) -> str:
    text = base64.b64encode(sealed).decode()
    lines = "\n".join(text[i : i + 64] for i in range(0, len(text), 64))
    return f"{_BEGIN}\nalgorithm: {algorithm}\nset: {share.set_id.hex()}\nshare: {share.index}\n\n{lines}\n{_END}\n"


def _parse(text: str, algorithm: str) -> tuple[bytes, int, bytes]:
    match = _FILE.fullmatch(text.replace("\r\n", "\n"))
    if match is None:
        raise Malformed("this is not a protected share", f"the file begins with {_BEGIN}")
    if match[1] != algorithm:
        opener = "a private key (--key)" if match[1] == _KEYED else "a passphrase"
        raise Malformed(f"this share is protected by {match[1]}", f"open it with {opener}")
    try:
        sealed = base64.b64decode(match[4].replace("\n", ""), validate=True)
    except ValueError:
        raise Malformed("the protected share is damaged", "use another copy") from None
    return bytes.fromhex(match[2]), int(match[3]), sealed


def _checked(share: Share, set_id: bytes, index: int) -> Share:
    if (share.set_id, share.index) != (set_id, index):
        raise Malformed("the file's head names another share than it holds", "use another copy")
    return share
