"""The closed lists: which keys, algorithms and suites exist, with the facts that policy needs.

Callers pick a name, never parameters.

Sources: SP 800-57 part 1 rev 5 table 2 (strength), SP 800-131A rev 2 and FIPS 203/204 (approval), SP 800-38D and 800-38F (modes).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum


class Purpose(StrEnum):
    """What a key is for: one key, one purpose (SP 800-57 part 1, section 5.2)."""

    ENCRYPT = "encrypt"
    SIGN = "sign"
    MAC = "mac"
    DECRYPT = "decrypt"
    AGREE = "agree"
    ENCAPSULATE = "encapsulate"


class Kind(StrEnum):
    """What sort of key it is: which calls of the module take it."""

    SYMMETRIC = "symmetric"
    MAC = "mac"
    SIGNATURE = "signature"
    RSA = "rsa"  # signs or decrypts; which of the two is the purpose it was created for
    AGREEMENT = "agreement"
    ENCAPSULATION = "encapsulation"


@dataclass(frozen=True)
class Facts:
    """What is known of a kind of key."""

    kind: Kind
    purposes: tuple[Purpose, ...]
    strength: int  # bits
    length: int  # bytes of a symmetric key; 0 for pairs
    slow: bool  # generation or private use takes more than 200 µs
    profile: str  # the least FIPS provider that has it: fips-3.1.2, fips-3.5
    approved: bool = True  # FIPS 186-5, 197, 198-1, 203, 204, SP 800-56A and B: nothing else is in the list


_E, _S, _M, _D, _A, _K = Purpose
_BASE, _NEW = "fips-3.1.2", "fips-3.5"


class KeySpec(StrEnum):
    """Every kind of key there is."""

    AES_256 = "aes-256"
    HMAC_SHA_256 = "hmac-sha-256"
    HMAC_SHA_384 = "hmac-sha-384"
    HMAC_SHA_512 = "hmac-sha-512"
    ECDSA_P256 = "ecdsa-p256"
    ECDSA_P384 = "ecdsa-p384"
    ED25519 = "ed25519"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"
    ECDH_P256 = "ecdh-p256"
    ECDH_P384 = "ecdh-p384"
    ML_KEM_768 = "ml-kem-768"
    ML_KEM_1024 = "ml-kem-1024"
    ML_DSA_65 = "ml-dsa-65"
    ML_DSA_87 = "ml-dsa-87"

    @property
    def facts(self) -> Facts:
        """Return what is known of this kind."""
        return _FACTS[self]

    @property
    def kind(self) -> Kind:
        """Return what sort of key it is."""
        return _FACTS[self].kind

    @property
    def strength(self) -> int:
        """Return the security strength in bits (SP 800-57 part 1 rev 5, tables 2 and 3; FIPS 203 and 204 by category)."""
        return _FACTS[self].strength

    @property
    def approved(self) -> bool:
        """Tell whether a NIST standard approves it."""
        return _FACTS[self].approved

    @property
    def profile(self) -> str:
        """Return the least FIPS provider that has it."""
        return _FACTS[self].profile

    @property
    def purposes(self) -> tuple[Purpose, ...]:
        """Return what such keys can be for."""
        return _FACTS[self].purposes

    @property
    def symmetric(self) -> bool:
        """Tell whether the key is a single secret, not a pair."""
        return _FACTS[self].length > 0

    @property
    def length(self) -> int:
        """Return the bytes of a symmetric key; 0 for pairs."""
        return _FACTS[self].length

    @property
    def slow(self) -> bool:
        """Tell whether making or using it would hold up an event loop."""
        return _FACTS[self].slow


_FACTS: dict[KeySpec, Facts] = {
    KeySpec.AES_256: Facts(Kind.SYMMETRIC, (_E,), 256, 32, False, _BASE),
    KeySpec.HMAC_SHA_256: Facts(Kind.MAC, (_M,), 256, 32, False, _BASE),
    KeySpec.HMAC_SHA_384: Facts(Kind.MAC, (_M,), 256, 48, False, _BASE),
    KeySpec.HMAC_SHA_512: Facts(Kind.MAC, (_M,), 256, 64, False, _BASE),
    KeySpec.ECDSA_P256: Facts(Kind.SIGNATURE, (_S,), 128, 0, False, _BASE),
    KeySpec.ECDSA_P384: Facts(Kind.SIGNATURE, (_S,), 192, 0, True, _BASE),
    KeySpec.ED25519: Facts(Kind.SIGNATURE, (_S,), 128, 0, False, _NEW),
    KeySpec.RSA_3072: Facts(Kind.RSA, (_S, _D), 128, 0, True, _BASE),
    KeySpec.RSA_4096: Facts(Kind.RSA, (_S, _D), 128, 0, True, _BASE),  # table 2 has no row between 3072 and 7680
    KeySpec.ECDH_P256: Facts(Kind.AGREEMENT, (_A,), 128, 0, False, _BASE),
    KeySpec.ECDH_P384: Facts(Kind.AGREEMENT, (_A,), 192, 0, True, _BASE),
    KeySpec.ML_KEM_768: Facts(Kind.ENCAPSULATION, (_K,), 192, 0, False, _NEW),  # FIPS 203, category 3
    KeySpec.ML_KEM_1024: Facts(Kind.ENCAPSULATION, (_K,), 256, 0, False, _NEW),  # category 5
    KeySpec.ML_DSA_65: Facts(Kind.SIGNATURE, (_S,), 192, 0, True, _NEW),  # FIPS 204, category 3
    KeySpec.ML_DSA_87: Facts(Kind.SIGNATURE, (_S,), 256, 0, True, _NEW),  # category 5
}


class SignatureAlgorithm(StrEnum):
    """How a message is signed."""

    ECDSA_SHA_256 = "ecdsa-sha-256"
    ECDSA_SHA_384 = "ecdsa-sha-384"
    ED25519 = "ed25519"
    RSA_PSS_SHA_256 = "rsa-pss-sha-256"
    RSA_PSS_SHA_384 = "rsa-pss-sha-384"
    RSA_PSS_SHA_512 = "rsa-pss-sha-512"
    ML_DSA = "ml-dsa"

    @staticmethod
    def fitting(spec: KeySpec) -> tuple[SignatureAlgorithm, ...]:
        """Return the algorithms of a key, the default first."""
        return _SIGNS.get(spec, ())


_PSS = (SignatureAlgorithm.RSA_PSS_SHA_256, SignatureAlgorithm.RSA_PSS_SHA_384, SignatureAlgorithm.RSA_PSS_SHA_512)
_SIGNS: dict[KeySpec, tuple[SignatureAlgorithm, ...]] = {
    KeySpec.ECDSA_P256: (SignatureAlgorithm.ECDSA_SHA_256,),
    KeySpec.ECDSA_P384: (SignatureAlgorithm.ECDSA_SHA_384,),
    KeySpec.ED25519: (SignatureAlgorithm.ED25519,),
    KeySpec.RSA_3072: _PSS,
    KeySpec.RSA_4096: _PSS,
    KeySpec.ML_DSA_65: (SignatureAlgorithm.ML_DSA,),
    KeySpec.ML_DSA_87: (SignatureAlgorithm.ML_DSA,),
}


class MacAlgorithm(StrEnum):
    """HMAC of FIPS 198-1 with a hash of FIPS 180-4; the key is as long as the hash."""

    HMAC_SHA_256 = "hmac-sha-256"
    HMAC_SHA_384 = "hmac-sha-384"
    HMAC_SHA_512 = "hmac-sha-512"


class SuiteState(StrEnum):
    """Whether a suite still makes ciphertexts, or only opens them."""

    CURRENT = "current"
    OPEN_ONLY = "open-only"


@dataclass(frozen=True)
class SuiteFacts:
    """A suite of spec/envelope.md."""

    number: int
    state: SuiteState
    approved: bool
    plaintext_limit: int  # bytes of one message
    messages_limit: int  # messages under one key version


class Suite(Enum):
    """The suites of the envelope."""

    AES_256_GCM_KBKDF_HMAC_SHA_512 = SuiteFacts(1, SuiteState.CURRENT, True, 64 * 1024, 2**48)
