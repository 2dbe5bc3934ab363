"""Using keys where they are: encrypt, decrypt, wrap, sign and the like, one at a time or in batches.

One table says, for each verb, its path, which of its fields are bytes, and what its answer is; the methods are the typed way in.
All of these may be sent twice without harm (they change nothing but the record), so a broken connection is repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from keyclave_client import answers
from keyclave_client.answers import decode, part, to_base64
from keyclave_client.errors import KeyclaveError, Malformed, from_answer
from keyclave_client.transport import Request, Transport

Bytes = bytes | bytearray | memoryview
Context = Mapping[str, str]
T = TypeVar("T")


class Verb(NamedTuple):
    """One way to use a key: the path's last part, the fields that are bytes in Python and base64 on the wire, and the answer."""

    path: str
    binary: frozenset[str]
    answer: type[Any]


VERBS: dict[str, Verb] = {
    "encrypt": Verb("encrypt", frozenset({"plaintext"}), answers.Encrypted),
    "decrypt": Verb("decrypt", frozenset({"ciphertext"}), answers.Decrypted),
    "re_encrypt": Verb("re-encrypt", frozenset({"ciphertext"}), answers.ReEncrypted),
    "data_key": Verb("data-key", frozenset(), answers.NewDataKey),
    "data_key_pair": Verb("data-key-pair", frozenset(), answers.NewDataKeyPair),
    "wrap": Verb("wrap", frozenset({"material"}), answers.Wrapped),
    "unwrap": Verb("unwrap", frozenset({"wrapped"}), answers.Unwrapped),
    "sign": Verb("sign", frozenset({"message"}), answers.Signature),
    "verify": Verb("verify", frozenset({"message", "signature"}), answers.Verified),
    "mac": Verb("mac", frozenset({"message"}), answers.Mac),
    "verify_mac": Verb("verify-mac", frozenset({"message", "mac"}), answers.Verified),
    "open": Verb("open", frozenset({"ciphertext"}), answers.Decrypted),
    "derive_shared_secret": Verb("derive-shared-secret", frozenset(), answers.SharedSecret),
    "encapsulate": Verb("encapsulate", frozenset(), answers.SharedSecret),
    "decapsulate": Verb("decapsulate", frozenset({"ciphertext"}), answers.SharedSecret),
    "random": Verb("random", frozenset(), answers.Random),
}


class KeyUse:
    """The operations on data. `key` is a key's id or name; errors are those of `keyclave_client.errors`."""

    _transport: Transport

    def encrypt(self, key: str, plaintext: Bytes, context: Context | None = None) -> answers.Encrypted:
        """Encrypt up to 64 KiB under the key's primary version, bound to `context` (larger data: `Encryptor`)."""
        return self._use(answers.Encrypted, "encrypt", key, plaintext=plaintext, context=context)

    def decrypt(self, key: str, ciphertext: Bytes, context: Context | None = None) -> answers.Decrypted:
        """Open a ciphertext of any version of the key; anything that does not open is `Undecipherable`."""
        return self._use(answers.Decrypted, "decrypt", key, ciphertext=ciphertext, context=context)

    def re_encrypt(
        self, key: str, ciphertext: Bytes, context: Context | None = None, *, to_key: str | None = None,
        to_context: Context | None = None,
    ) -> answers.ReEncrypted:  # fmt: skip
        """Bring a ciphertext or wrapped key to the primary version, to another key or another context; no plaintext travels."""
        return self._use(
            answers.ReEncrypted, "re_encrypt", key, ciphertext=ciphertext, context=context, to_key=to_key, to_context=to_context
        )

    def data_key(self, key: str, size: int = 32, context: Context | None = None, *, plaintext: bool = True) -> answers.NewDataKey:
        """Ask for a fresh data key of `size` bytes, wrapped under `key` and, unless `plaintext` is false, plain too."""
        return self._use(answers.NewDataKey, "data_key", key, bytes=size, context=context, plaintext=plaintext)

    def data_key_pair(
        self, key: str, spec: str, context: Context | None = None, *, private: bool = True
    ) -> answers.NewDataKeyPair:
        """Ask for a fresh key pair of `spec` whose private half is wrapped under `key`."""
        return self._use(answers.NewDataKeyPair, "data_key_pair", key, spec=spec, context=context, private=private)

    def wrap(self, key: str, material: Bytes, context: Context | None = None) -> answers.Wrapped:
        """Wrap key material of the caller's."""
        return self._use(answers.Wrapped, "wrap", key, material=material, context=context)

    def unwrap(self, key: str, wrapped: Bytes, context: Context | None = None) -> answers.Unwrapped:
        """Open a wrapped key."""
        return self._use(answers.Unwrapped, "unwrap", key, wrapped=wrapped, context=context)

    def sign(self, key: str, message: Bytes, *, digested: bool = False, algorithm: str | None = None) -> answers.Signature:
        """Sign a message, or its digest when `digested`."""
        return self._use(answers.Signature, "sign", key, message=message, digested=digested, algorithm=algorithm)

    def verify(
        self, key: str, message: Bytes, signature: Bytes, *, digested: bool = False, algorithm: str | None = None,
        version: int | None = None,
    ) -> answers.Verified:  # fmt: skip
        """Verify a signature; one that does not verify raises `InvalidSignature`."""
        return self._use(
            answers.Verified, "verify", key,
            message=message, signature=signature, digested=digested, algorithm=algorithm, version=version,
        )  # fmt: skip

    def mac(self, key: str, message: Bytes, *, algorithm: str | None = None) -> answers.Mac:
        """Compute a MAC."""
        return self._use(answers.Mac, "mac", key, message=message, algorithm=algorithm)

    def verify_mac(
        self, key: str, message: Bytes, mac: Bytes, *, algorithm: str | None = None, version: int | None = None
    ) -> answers.Verified:
        """Verify a MAC; one that does not verify raises `InvalidSignature`."""
        return self._use(answers.Verified, "verify_mac", key, message=message, mac=mac, algorithm=algorithm, version=version)

    def open(self, key: str, ciphertext: Bytes, *, version: int | None = None) -> answers.Decrypted:
        """Decrypt what was encrypted to the public half of the key (RSA-OAEP with SHA-256)."""
        return self._use(answers.Decrypted, "open", key, ciphertext=ciphertext, version=version)

    def derive_shared_secret(
        self, key: str, peer_public_key: str, label: str, *, version: int | None = None
    ) -> answers.SharedSecret:
        """Agree on 32 secret bytes with the holder of `peer_public_key` (PEM, same curve); both sides use the same `label`."""
        given = {"peer_public_key": peer_public_key, "label": label, "version": version}
        return self._use(answers.SharedSecret, "derive_shared_secret", key, **given)

    def encapsulate(self, key: str) -> answers.SharedSecret:
        """Make a shared secret and the ciphertext that carries it to the holder of the key (ML-KEM)."""
        return self._use(answers.SharedSecret, "encapsulate", key)

    def decapsulate(self, key: str, ciphertext: Bytes, *, version: int | None = None) -> answers.SharedSecret:
        """Recover the shared secret of an encapsulation."""
        return self._use(answers.SharedSecret, "decapsulate", key, ciphertext=ciphertext, version=version)

    def random(self, size: int) -> bytes:
        """Return up to 1024 random bytes from the server's generator."""
        return self._use(answers.Random, "random", None, bytes=size).random

    def batch(self, verb: str, key: str | None, items: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Do one verb up to 1000 times in one request and one record.

        `verb` is a name of `VERBS`; an item holds the fields of the single call (`{"plaintext": b"...", "context": {...}}`).
        The list holds, in the items' order, the verb's answer or the `KeyclaveError` that this item met (returned, not raised).
        """
        row = _row(verb)
        body = {"items": [_wire(row, item) for item in items]}
        got = self._transport.json(Request("POST", _path(key, row.path) + "/batch", body, repeatable=True))
        results = part(got, "results")
        if len(results) != len(items):
            raise KeyclaveError("the answer has not one result for each item", "is the server newer or older than this client?")
        event = got.get("event")
        return [_result(row, result, event) for result in results]

    def _use(self, kind: type[T], verb: str, key: str | None, **given: Any) -> T:
        row = VERBS[verb]
        return decode(kind, self._transport.json(Request("POST", _path(key, row.path), _wire(row, given), repeatable=True)))


def _row(verb: str) -> Verb:
    row = VERBS.get(verb.replace("-", "_"))
    if row is None:
        raise Malformed(f"there is no verb {verb!r}", "one of " + ", ".join(VERBS))
    return row


def _path(key: str | None, verb: str) -> str:
    return f"/v1/{verb}" if key is None else f"/v1/keys/{quote(key, safe='')}/{verb}"


def _wire(row: Verb, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request body: what was not given is left out, bytes become base64."""
    return {
        name: to_base64(value) if name in row.binary else dict(value) if isinstance(value, Mapping) else value
        for name, value in given.items()
        if value is not None
    }


def _result(row: Verb, result: Any, event: str | None) -> Any:
    if isinstance(result, dict) and isinstance(result.get("error"), dict):
        return from_answer({"event": event, **result["error"]})
    return decode(row.answer, {"event": event, **result} if isinstance(result, dict) else result)
