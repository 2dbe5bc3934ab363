"""encrypt, decrypt: small data, in place. The key never leaves; larger data takes a data key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec
from pybase64 import b64encode

from keyclave.core import limits
from keyclave.core.errors import Undecipherable
from keyclave.crypto.suites import Purpose
from keyclave.envelope.header import KIND_MESSAGE, OVERHEAD
from keyclave.operations.answers import AnswerForm, written
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.fields import admit_context, all_from_base64, all_to_base64, from_base64, to_base64
from keyclave.operations.forms import Answer, Base64, Context, Request
from keyclave.operations.keyring import Handle, LoadedKey
from keyclave.operations.messages import Message
from keyclave.operations.sealing import find_version, message_of, open_envelope, seal, seal_all


class EncryptRequest(Request, kw_only=True):
    """`context` is authenticated with the ciphertext and must be given again to decrypt."""

    plaintext: Base64
    context: Context = {}


class EncryptAnswer(Answer, kw_only=True):
    """`key` and `version` are what the ciphertext depends on."""

    ciphertext: Base64
    key: str
    version: int


class DecryptRequest(Request, kw_only=True):
    """The same context as at encryption."""

    ciphertext: Base64
    context: Context = {}


class DecryptAnswer(Answer, kw_only=True):
    """The data, and the version that protected it."""

    plaintext: Base64
    key: str
    version: int


def encrypt(desk: Desk, attempt: Attempt, key: LoadedKey, request: EncryptRequest) -> EncryptAnswer:
    """Encrypt under the primary version."""
    handle, plaintext, context = _admitted(desk, attempt, key, request)
    return _answer(handle, seal(attempt, handle, KIND_MESSAGE, plaintext, context))


def encrypt_later(desk: Desk, attempt: Attempt, key: LoadedKey, request: EncryptRequest) -> Callable[[str], bytes]:
    """Like `encrypt`; what is sealed is sealed when the answer is asked for, with all that waits for the same commit.

    The cipher's code and the interpreter's do not fit the processor's nearest caches together: each request by itself would have
    both fetched anew.
    """
    handle, plaintext, context = _admitted(desk, attempt, key, request)
    message = message_of(attempt, handle, KIND_MESSAGE)
    return partial(_written, handle, message, message.wait(plaintext, context))


def _admitted(desk: Desk, attempt: Attempt, key: LoadedKey, request: EncryptRequest) -> tuple[Handle, bytes, bytes]:
    """Return the version that protects, the plaintext and the canonical context."""
    plaintext = from_base64(request.plaintext, limits.PLAINTEXT, "plaintext")
    context = admit_context(attempt, request.context)
    handle = desk.keyring.protecting(key, Purpose.ENCRYPT, attempt.at)
    attempt.version = handle.number
    return handle, plaintext, context


def _written(handle: Handle, message: Message, number: int, event: str) -> bytes:
    form = handle.forms.get("ciphertext")
    if form is None:
        form = handle.forms["ciphertext"] = AnswerForm(_answer(handle, b""), "ciphertext")
    return form.write(event, b64encode(message.envelope(number)))


def _answer(handle: Handle, envelope: bytes) -> EncryptAnswer:
    return EncryptAnswer(ciphertext=to_base64(envelope), key=handle.key_id, version=handle.number)


def encrypt_all(desk: Desk, attempt: Attempt, key: LoadedKey, items: Sequence[EncryptRequest]) -> msgspec.Raw:
    """Encrypt many at once: what is the same for all is worked out once. Raises if one of them cannot be encrypted."""
    plaintexts = all_from_base64([item.plaintext for item in items], limits.PLAINTEXT, "plaintext")
    given = [item.context for item in items]
    none = b"" if all(given) else admit_context(attempt, {})
    contexts = [admit_context(attempt, context) if context else none for context in given]
    handle = desk.keyring.protecting(key, Purpose.ENCRYPT, attempt.at, len(items))
    attempt.version = handle.number
    blobs = seal_all(attempt, handle, KIND_MESSAGE, plaintexts, contexts)
    return written(EncryptAnswer(ciphertext="", key=handle.key_id, version=handle.number), "ciphertext", all_to_base64(blobs))


def decrypt(desk: Desk, attempt: Attempt, key: LoadedKey, request: DecryptRequest) -> DecryptAnswer:
    """Decrypt a message under the version that protected it."""
    blob = from_base64(request.ciphertext, limits.PLAINTEXT + OVERHEAD, "ciphertext")
    context = admit_context(attempt, request.context)
    handle, header, sealed = find_version(attempt, key, blob)
    attempt.version = handle.number
    if header.kind != KIND_MESSAGE:
        raise Undecipherable
    plaintext = open_envelope(attempt, handle, header, sealed, context)
    return DecryptAnswer(plaintext=to_base64(plaintext), key=handle.key_id, version=handle.number)
