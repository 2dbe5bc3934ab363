"""Protected shares: opened by their custodian alone, bound to set and number, and every mistake is said."""

from __future__ import annotations

import base64
import re

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from keyclave.core.errors import KeyclaveError, Malformed, Undecipherable
from keyclave.crypto import custody
from keyclave.crypto.arena import slot_from
from keyclave.crypto.custody import open_with_key, open_with_passphrase, protect_to_key, protect_to_passphrase
from keyclave.crypto.module import CryptoModule
from keyclave.crypto.pyca import PycaModule
from keyclave.crypto.shares import Share, split

PHRASE = "correct horse battery staple \u00fc"


def private_pem(key: ec.EllipticCurvePrivateKey, encryption: KeySerializationEncryption | None = None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


CUSTODIAN, SOMEBODY = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
MODULE = PycaModule()
with slot_from(bytes(range(32))) as secret:
    SHARE, OTHER = split(MODULE, secret, 2, 2).shares
TO_KEY = protect_to_key(SHARE, public_pem(CUSTODIAN))
TO_PHRASE = protect_to_passphrase(MODULE, SHARE, PHRASE)


@pytest.mark.requirement("R16", "R6")
def test_the_custodians_key_opens_the_share() -> None:
    assert open_with_key(TO_KEY, private_pem(CUSTODIAN)).to_text() == SHARE.to_text()
    locked = private_pem(CUSTODIAN, BestAvailableEncryption(b"password"))
    assert open_with_key(TO_KEY.replace("\n", "\r\n"), locked, b"password").to_text() == SHARE.to_text()
    for password in (None, b"other"):
        with pytest.raises(Malformed, match="private key"):
            open_with_key(TO_KEY, locked, password)
    with pytest.raises(Undecipherable):
        open_with_key(TO_KEY, private_pem(SOMEBODY))


@pytest.mark.requirement("R16", "R6")
def test_the_custodians_passphrase_opens_the_share(module: CryptoModule) -> None:
    assert open_with_passphrase(module, TO_PHRASE, PHRASE).to_text() == SHARE.to_text()
    for wrong in ("", PHRASE + " ", PHRASE.lower().title()):
        with pytest.raises(Undecipherable):
            open_with_passphrase(module, TO_PHRASE, wrong)


@pytest.mark.requirement("R16")
@pytest.mark.parametrize("text", [TO_KEY, TO_PHRASE], ids=["key", "passphrase"])
def test_the_file_shows_whose_it_is_and_nothing_of_the_share(text: str) -> None:
    assert f"set: {SHARE.set_id.hex()}\nshare: {SHARE.index}\n" in text
    assert text.isascii()
    lines = text.splitlines()[:-1]
    head = max(number for number, line in enumerate(lines) if ":" in line)
    sealed = base64.b64decode("".join(lines[head + 1 :]), validate=True)
    for shown in (SHARE.to_text()[10:30], bytes(SHARE.view()).hex(), base64.b64encode(bytes(SHARE.view())[:24]).decode()):
        assert shown not in text
    assert bytes(SHARE.view()) not in sealed
    assert protect_to_key(SHARE, public_pem(CUSTODIAN)) != TO_KEY


@pytest.mark.requirement("R16")
@pytest.mark.parametrize(
    ("line", "other"),
    [
        (r"set: \w+", "set: 00000000"),
        (r"share: \d+", "share: 2"),
        (r"iterations: \d+", "iterations: 600000"),
    ],
)
@pytest.mark.parametrize("text", [TO_KEY, TO_PHRASE], ids=["key", "passphrase"])
def test_a_head_that_was_changed_does_not_open(module: CryptoModule, text: str, line: str, other: str) -> None:
    changed = re.sub(line, other, text)
    if changed == text:
        assert "iterations" in line
        assert text is TO_KEY
        return
    with pytest.raises(Undecipherable):
        open_with_key(changed, private_pem(CUSTODIAN)) if text is TO_KEY else open_with_passphrase(module, changed, PHRASE)


@pytest.mark.requirement("R16")
def test_a_file_that_holds_another_share_than_it_says_is_refused(monkeypatch: pytest.MonkeyPatch, module: CryptoModule) -> None:
    """Whoever seals can seal anything; what comes out must be what the head says."""
    monkeypatch.setattr(Share, "to_text", lambda self: other)
    other = custody_text(OTHER)
    keyed, phrased = protect_to_key(SHARE, public_pem(CUSTODIAN)), protect_to_passphrase(module, SHARE, PHRASE)
    with pytest.raises(Malformed, match="another share"):
        open_with_key(keyed, private_pem(CUSTODIAN))
    with pytest.raises(Malformed, match="another share"):
        open_with_passphrase(module, phrased, PHRASE)


def custody_text(share: Share) -> str:
    from keyclave.crypto import share_text

    return share_text.to_text(bytearray((1, *share.set_id, share.threshold, share.index)) + share.view())


@pytest.mark.parametrize("iterations", ["0", "1", "599999", "10000001", "999999999"])
def test_a_work_factor_that_was_never_written_is_refused_before_it_is_spent(module: CryptoModule, iterations: str) -> None:
    with pytest.raises(Malformed, match="iterations"):
        open_with_passphrase(module, re.sub(r"iterations: \d+", f"iterations: {iterations}", TO_PHRASE), PHRASE)


def test_the_wrong_opener_names_the_right_one(module: CryptoModule) -> None:
    with pytest.raises(Malformed) as refused:
        open_with_key(TO_PHRASE, private_pem(CUSTODIAN))
    assert "passphrase" in refused.value.hint
    with pytest.raises(Malformed) as refused:
        open_with_passphrase(module, TO_KEY, PHRASE)
    assert "private key" in refused.value.hint
    with pytest.raises(Malformed) as refused:
        open_with_key(TO_KEY.replace("p384", "p999"), private_pem(CUSTODIAN))
    assert "newer" in refused.value.hint


@pytest.mark.parametrize(
    "pem", [b"", b"x", public_pem(CUSTODIAN)[:-40], private_pem(CUSTODIAN), public_pem(ec.generate_private_key(ec.SECP256R1()))]
)
def test_a_share_is_protected_to_a_p_384_key_only(pem: bytes) -> None:
    with pytest.raises(Malformed, match="P-384"):
        protect_to_key(SHARE, pem)
    with pytest.raises(Malformed, match="P-384"):
        open_with_key(TO_KEY, pem.replace(b"PRIVATE", b"PUBLIC"))


@given(st.text(max_size=400), st.integers(0, len(TO_KEY) - 1), st.characters())
def test_no_text_makes_anything_but_our_errors(text: str, at: int, character: str) -> None:
    for damaged in (text, TO_KEY[:at], TO_KEY[:at] + character + TO_KEY[at + 1 :]):
        try:
            opened = open_with_key(damaged, private_pem(CUSTODIAN))
        except KeyclaveError:
            continue
        assert opened.to_text() == SHARE.to_text(), "only white space around it may differ"


def test_the_iterations_are_not_fewer_than_promised() -> None:
    assert custody.ITERATIONS >= 600_000
