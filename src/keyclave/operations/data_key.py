"""data-key, data-key-pair, wrap, unwrap: keys for data that is encrypted where it lies. The application keeps the wrapped
form."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

from msgspec import Meta
from pybase64 import b64encode

from keyclave.core import limits
from keyclave.core.errors import Malformed, Undecipherable
from keyclave.crypto.disclosure import disclose, lend
from keyclave.crypto.public import to_pem
from keyclave.crypto.suites import KeySpec, Purpose
from keyclave.envelope.header import KIND_WRAPPED_KEY, OVERHEAD
from keyclave.operations.answers import AnswerForm
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.fields import admit_context, from_base64, to_base64
from keyclave.operations.forms import Answer, Base64, Context, Request
from keyclave.operations.keyring import Handle, LoadedKey
from keyclave.operations.messages import LONGEST_KEY, KeyMessage
from keyclave.operations.sealing import find_version, key_message_of, open_envelope, seal

_MATERIAL = 8192  # bytes of a key to wrap: the PKCS #8 of an RSA-4096 key is 2,400


class DataKeyRequest(Request, kw_only=True):
    """`plaintext` false: only the wrapped form, for whoever stores now and lets another decrypt later."""

    bytes: Annotated[int, Meta(ge=16, le=LONGEST_KEY)] = 32
    context: Context = {}
    plaintext: bool = True


class DataKeyAnswer(Answer, kw_only=True):
    """The data key wrapped, and plain unless that was declined."""

    wrapped: Base64
    plaintext: Base64 = ""
    key: str
    version: int


class DataKeyPairRequest(Request, kw_only=True):
    """`private` false: only the wrapped form of the private key."""

    spec: KeySpec
    context: Context = {}
    private: bool = True


class DataKeyPairAnswer(Answer, kw_only=True):
    """Public key as PEM; private key as PKCS #8 DER, wrapped and, unless declined, plain."""

    public_key: str
    wrapped: Base64
    private_key: Base64 = ""
    key: str
    version: int


class WrapRequest(Request, kw_only=True):
    """Material made elsewhere."""

    material: Base64
    context: Context = {}


class WrapAnswer(Answer, kw_only=True):
    """The material wrapped."""

    wrapped: Base64
    key: str
    version: int


class UnwrapRequest(Request, kw_only=True):
    """A wrapped key and the context it was wrapped with."""

    wrapped: Base64
    context: Context = {}


class UnwrapAnswer(Answer, kw_only=True):
    """The key in the clear: for the caller's memory only."""

    material: Base64
    key: str
    version: int


def data_key(desk: Desk, attempt: Attempt, key: LoadedKey, request: DataKeyRequest) -> DataKeyAnswer:
    """Make a data key; it is in locked memory until it leaves."""
    handle, context = _admitted(desk, attempt, key, request)
    with desk.module.random_slot(request.bytes) as slot:
        wrapped = seal(attempt, handle, KIND_WRAPPED_KEY, lend(slot), context)
        plain = disclose(slot) if request.plaintext else ""
    return DataKeyAnswer(wrapped=to_base64(wrapped), plaintext=plain, key=handle.key_id, version=handle.number)


def data_key_later(desk: Desk, attempt: Attempt, key: LoadedKey, request: DataKeyRequest) -> Callable[[str], bytes]:
    """Like `data_key`; it is made when the answer is asked for, with all that wait for the same commit."""
    handle, context = _admitted(desk, attempt, key, request)
    message = key_message_of(attempt, handle)
    return partial(_written, handle, message, message.wait_for_key(request.bytes, context, plain=request.plaintext))


def _admitted(desk: Desk, attempt: Attempt, key: LoadedKey, request: DataKeyRequest) -> tuple[Handle, bytes]:
    """Return the version that protects, and the canonical context."""
    context = admit_context(attempt, request.context)
    handle = desk.keyring.protecting(key, Purpose.ENCRYPT, attempt.at)
    attempt.version = handle.number
    return handle, context


def _written(handle: Handle, message: KeyMessage, number: int, event: str) -> bytes:
    wrapped, plain = message.key(number)
    fields = ("wrapped", "plaintext") if plain else ("wrapped",)
    form = handle.forms.get(fields[-1])
    if form is None:
        answer = DataKeyAnswer(wrapped="", key=handle.key_id, version=handle.number)
        form = handle.forms[fields[-1]] = AnswerForm(answer, *fields)
    return form.write(event, b64encode(wrapped), *((plain,) if plain else ()))


def data_key_pair(desk: Desk, attempt: Attempt, key: LoadedKey, request: DataKeyPairRequest) -> DataKeyPairAnswer:
    """Make a key pair whose private half is wrapped."""
    context = admit_context(attempt, request.context)
    spec = request.spec
    if spec.symmetric:
        raise Malformed(f"{spec.value} is not a key pair", "use data-key for symmetric data keys")
    handle = desk.keyring.protecting(key, Purpose.ENCRYPT, attempt.at)
    attempt.version, attempt.detail = handle.number, {"spec": spec.value}
    pair = desk.module.generate_pair(spec)
    with pair.private as private:
        wrapped = seal(attempt, handle, KIND_WRAPPED_KEY, lend(private), context)
        plain = disclose(private) if request.private else ""
    return DataKeyPairAnswer(
        public_key=to_pem(pair.public),
        wrapped=to_base64(wrapped),
        private_key=plain,
        key=handle.key_id,
        version=handle.number,
    )


def wrap(desk: Desk, attempt: Attempt, key: LoadedKey, request: WrapRequest) -> WrapAnswer:
    """Wrap key material that was made elsewhere."""
    material = from_base64(request.material, _MATERIAL, "material")
    if not material:
        raise Malformed("there is no material to wrap", "send the key's bytes in base64")
    context = admit_context(attempt, request.context)
    handle = desk.keyring.protecting(key, Purpose.ENCRYPT, attempt.at)
    attempt.version = handle.number
    wrapped = seal(attempt, handle, KIND_WRAPPED_KEY, material, context)
    return WrapAnswer(wrapped=to_base64(wrapped), key=handle.key_id, version=handle.number)


def unwrap(desk: Desk, attempt: Attempt, key: LoadedKey, request: UnwrapRequest) -> UnwrapAnswer:
    """Open a wrapped key; a message is not one."""
    blob = from_base64(request.wrapped, limits.PLAINTEXT + OVERHEAD, "wrapped")
    context = admit_context(attempt, request.context)
    handle, header, sealed = find_version(attempt, key, blob)
    attempt.version = handle.number
    if header.kind != KIND_WRAPPED_KEY:
        raise Undecipherable
    material = open_envelope(attempt, handle, header, sealed, context)
    return UnwrapAnswer(material=to_base64(material), key=handle.key_id, version=handle.number)
