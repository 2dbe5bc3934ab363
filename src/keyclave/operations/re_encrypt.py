"""re-encrypt: to the newest version, to another key, or with a changed encryption context; plaintext never leaves.

Messages and wrapped keys alike. The caller proves the old context by giving it, so a context-bound ciphertext moves like any
other.
"""

from __future__ import annotations

from keyclave.core import limits
from keyclave.core.errors import Unknown
from keyclave.crypto.suites import Purpose
from keyclave.envelope.header import OVERHEAD
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.fields import admit_context, from_base64, to_base64
from keyclave.operations.forms import Answer, Base64, Context, Request, Text
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.rights import choose
from keyclave.operations.sealing import find_version, open_envelope, seal


class ReEncryptRequest(Request, kw_only=True):
    """`to_key` omitted: the same key's primary version. `to_context` omitted: the same context."""

    ciphertext: Base64
    context: Context = {}
    to_key: Text | None = None
    to_context: Context | None = None


class ReEncryptAnswer(Answer, kw_only=True):
    """The new ciphertext, what it depends on now, and what it depended on."""

    ciphertext: Base64
    key: str
    version: int
    from_key: str
    from_version: int


def re_encrypt(desk: Desk, attempt: Attempt, key: LoadedKey, request: ReEncryptRequest) -> ReEncryptAnswer:
    """Open under the old version, seal under the new."""
    blob = from_base64(request.ciphertext, limits.PLAINTEXT + OVERHEAD, "ciphertext")
    context = admit_context(attempt, request.context)
    to_context = context if request.to_context is None else admit_context(attempt, request.to_context)
    target = key if request.to_key is None else _target(desk, attempt, request)
    handle, header, sealed = find_version(attempt, key, blob)
    attempt.version = handle.number
    plaintext = open_envelope(attempt, handle, header, sealed, context)
    to = desk.keyring.protecting(target, Purpose.ENCRYPT, attempt.at)
    attempt.detail = {"to_key": to.key_id, "to_version": to.number}
    return ReEncryptAnswer(
        ciphertext=to_base64(seal(attempt, to, header.kind, plaintext, to_context)),
        key=to.key_id,
        version=to.number,
        from_key=handle.key_id,
        from_version=handle.number,
    )


def _target(desk: Desk, attempt: Attempt, request: ReEncryptRequest) -> LoadedKey:
    """Find the other key; the caller must have a right on it too, which admits the context that the result will have."""
    own, ref = attempt.decision, request.to_key or ""
    attempt.rest_on(ref)  # before it is looked for: one that is not there may just have been made by another process
    try:
        target = desk.find(attempt.caller.tenant, ref)
    except Unknown:
        desk.access.judge_unknown(attempt, ref)
        raise
    attempt.rest_on(target.key.id)
    try:
        decision = desk.access.permit(attempt, attempt.action, target)
    finally:
        attempt.decision = own
    if decision.alternatives:
        choose(attempt, decision, request.context if request.to_context is None else request.to_context)
    return target
