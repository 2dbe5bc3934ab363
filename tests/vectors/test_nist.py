"""The crypto module against NIST's own answers: key derivation (SP 800-108) and key wrapping (SP 800-38F)."""

from __future__ import annotations

import re
from pathlib import Path

import cryptography_vectors
import pytest

from keyclave.core.errors import Undecipherable
from keyclave.crypto.arena import slot_from
from keyclave.crypto.pyca import PycaModule

FOLDER = Path(cryptography_vectors.__file__).parent
MODULE = PycaModule()


def records(text: str) -> list[dict[str, str]]:
    """Return the blocks of a NIST answer file as fields."""
    blocks = re.split(r"\n(?=COUNT ?=)", text)
    return [dict(re.findall(r"^(\w+) ?= ?(\w*)$", block, re.M)) | {"FAIL": "FAIL" in block} for block in blocks[1:]]  # type: ignore[dict-item]


@pytest.mark.requirement("R12")
def test_kbkdf_in_counter_mode_with_hmac_sha_512() -> None:
    text = (FOLDER / "KDF" / "nist-800-108-KBKDF-CTR.txt").read_text()
    section = text.split("[PRF=HMAC_SHA512]\n[CTRLOCATION=BEFORE_FIXED]\n[RLEN=32_BITS]\n")[1].split("[PRF=")[0]
    found = records(section)
    for record in found:
        fixed, length = bytes.fromhex(record["FixedInputData"]), int(record["L"]) // 8
        with slot_from(bytearray.fromhex(record["KI"])) as key, MODULE.derive(key, fixed, length) as derived:
            assert bytes(derived.view()).hex() == record["KO"]
    assert len(found) == 40


@pytest.mark.requirement("R12")
def test_kwp_wrapping() -> None:
    found = records((FOLDER / "keywrap" / "kwtestvectors" / "KWP_AE_256.txt").read_text())
    for record in found:
        with slot_from(bytearray.fromhex(record["K"])) as key, slot_from(bytearray.fromhex(record["P"])) as secret:
            assert MODULE.kwp_wrap(key, secret).hex() == record["C"]
    assert len(found) == 500


@pytest.mark.requirement("R12")
def test_kwp_unwrapping() -> None:
    found = records((FOLDER / "keywrap" / "kwtestvectors" / "KWP_AD_256.txt").read_text())
    refused = 0
    for record in found:
        with slot_from(bytearray.fromhex(record["K"])) as key:
            if record["FAIL"]:
                refused += 1
                with pytest.raises(Undecipherable):
                    MODULE.kwp_unwrap(key, bytes.fromhex(record["C"]))
            else:
                with MODULE.kwp_unwrap(key, bytes.fromhex(record["C"])) as secret:
                    assert bytes(secret.view()).hex() == record["P"]
    assert (len(found), refused) == (500, 100)
