"""A program: makes keys, uses them, lets them go and waits to be looked at. The keys it tells go straight from locked memory to a pipe.

    python key_user.py HOW DESCRIPTOR

HOW: `slots` as the server does; `kept` holds every data key as bytes as well; `dropped` opens every wrapped key into bytes, as a
program without locked memory would, and lets go of them. Each key is told as its length (4 bytes) and its bytes, by writev(2) from
the memory it lies in, so that telling it makes no copy in this process. A length of 0 says that everything is let go.
"""

from __future__ import annotations

import gc
import os
import sys

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyclave.crypto.arena import Slot
from keyclave.crypto.log_keys import LogSigner
from keyclave.crypto.pyca import PycaModule
from keyclave.crypto.shares import combine, split
from keyclave.crypto.suites import KeySpec, MacAlgorithm, Purpose, SignatureAlgorithm

DATA_KEYS = 300
PAIRS = {
    # where the secret part stands in the PKCS #8 DER: a scalar, a seed, or the first prime of RSA behind n, e and d
    KeySpec.ECDSA_P256: (20, 36, 32),
    KeySpec.ECDSA_P384: (20, 35, 48),
    KeySpec.ECDH_P256: (20, 36, 32),
    KeySpec.ED25519: (20, 16, 32),
    KeySpec.ML_DSA_65: (5, 22, 32),
    KeySpec.ML_KEM_768: (20, 22, 64),
    KeySpec.RSA_3072: (2, 824, 192),
}


class Teller:
    """Tells keys to whoever holds the other end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def tell(self, view: memoryview) -> None:
        """Write a key without copying it."""
        os.writev(self._descriptor, [len(view).to_bytes(4, "little"), view])

    def end(self) -> None:
        """Say that all keys are let go."""
        os.write(self._descriptor, bytes(4))


def use_data_keys(module: PycaModule, teller: Teller, how: str, plain: list[bytes]) -> None:
    """Make data keys and do with each what the server does with keys."""
    held: list[Slot] = []
    dropped: list[bytes] = []
    with module.random_slot(32) as wrapping:
        for number in range(DATA_KEYS):
            made = module.random_slot(32)
            sealed, wrapped = module.seal(wrapping, made, b"aad"), module.kwp_wrap(wrapping, made)
            teller.tell(made.view())
            if how == "dropped":
                dropped.append(AESGCM(wrapping.view()).decrypt(sealed[:12], sealed[12:], b"aad"))
            if how == "kept":
                plain.append(bytes(made.view()))
            with module.kwp_unwrap(wrapping, wrapped) as again:
                assert again.same_as(made)
            made.wipe()
            key = module.open_slot(wrapping, sealed, b"aad")
            info = b"message %d" % number
            sealer = module.message_sealer(key, info)
            message = sealer.seal(bytes(12), b"plaintext", b"aad")
            assert module.open_message(key, info, sealer.commitment, bytes(12), message, b"aad") == b"plaintext"
            with module.derive(key, b"derived", 32) as derived:
                teller.tell(derived.view())
                module.seal(derived, b"plaintext", b"")
            module.mac(key, MacAlgorithm.HMAC_SHA_256, b"message")
            module.key_check(key)
            held.append(key)
    for key in held:
        key.wipe()


def use_new_keys(module: PycaModule, teller: Teller) -> None:
    """Have keys made that nobody holds, many at once and alone, and open each once to tell it."""
    with module.random_slot(32) as wrapping:
        for together in (1, 16, DATA_KEYS):
            places = [b"place %d" % number for number in range(together)]
            for place, (_, sealed) in zip(places, module.make_sealed(wrapping, 32, places), strict=True):
                with module.open_slot(wrapping, sealed, place) as opened:
                    teller.tell(opened.view())


def use_pairs(module: PycaModule, teller: Teller) -> None:
    """Make key pairs of every kind and use their private halves."""
    for spec, (count, at, length) in PAIRS.items():
        for _ in range(count):
            pair = module.generate_pair(spec)
            with pair.private as private:
                teller.tell(private.view()[at : at + length])
                if Purpose.SIGN in spec.purposes:
                    module.sign(private, spec, SignatureAlgorithm.fitting(spec)[0], b"message", digested=False)
                if Purpose.AGREE in spec.purposes:
                    with module.agree(private, spec, pair.public) as secret:
                        teller.tell(secret.view())
                if Purpose.ENCAPSULATE in spec.purposes:
                    secret, ciphertext = module.encapsulate(pair.public, spec)
                    with secret, module.decapsulate(private, spec, ciphertext):
                        teller.tell(secret.view())
                if Purpose.DECRYPT in spec.purposes:
                    with module.random_slot(32) as ephemeral:
                        ciphertext = module.encrypt_public(pair.public, spec, ephemeral.view())
                        teller.tell(ephemeral.view())
                    with module.decrypt_private(private, spec, ciphertext):
                        pass


def use_root(module: PycaModule, teller: Teller) -> None:
    """Share a recovery key, bring it back, and sign as the log does."""
    with module.random_slot(32) as recovery:
        teller.tell(recovery.view())
        made = split(module, recovery, 2, 3)
        with combine(made.shares[1:], made.check, module):
            made.wipe()
    seed = module.random_slot(64)
    teller.tell(seed.view())
    signer = LogSigner(seed)
    signer.sign_ed25519(b"checkpoint")
    signer.sign_mldsa44(b"checkpoint")
    signer.wipe()


def main() -> None:
    """Do as told, say that it is done, and wait for the end of standard input."""
    how, teller = sys.argv[1], Teller(int(sys.argv[2]))
    plain: list[bytes] = []
    module = PycaModule()
    module.self_test()
    use_data_keys(module, teller, how, plain)
    if how == "slots":
        use_new_keys(module, teller)
        use_pairs(module, teller)
        use_root(module, teller)
    gc.collect()
    teller.end()
    sys.stdin.readline()
    assert len(plain) == (DATA_KEYS if how == "kept" else 0)


if __name__ == "__main__":
    main()
