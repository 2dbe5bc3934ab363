"""The default cryptographic module: the `cryptography` wheel (OpenSSL inside) behind `CryptoModule`.

module        the boundary: the error latch, then one of the rooms below
messages      the hot path: a derived key and commitment for each message
symmetric     random bytes, AES-GCM, AES-KWP, HMAC, derivation
private_keys  making, importing, loading and dropping private keys
asymmetric    signatures, OAEP, ECDH, ML-KEM
"""

from keyclave.crypto.pyca.module import PycaModule

__all__ = ["PycaModule"]
