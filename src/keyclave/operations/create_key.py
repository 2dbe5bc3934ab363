"""key-create, key-import: a key begins its life, described from the first moment (R13) and wrapped before it is kept.

Imported material comes wrapped to a one-time RSA key of this server (RSA-OAEP-SHA-256 of an ephemeral AES-256 key, then
AES-KWP of the material), so that it is never in the clear on the way; the key-check value confirms what arrived.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

from msgspec import Meta
from sqlalchemy import Connection

from keyclave.core import limits
from keyclave.core.errors import KeyclaveError, Malformed, Undecipherable
from keyclave.core.ids import AFTER_TIME, RAW, to_id
from keyclave.crypto.arena import Slot
from keyclave.crypto.public import to_pem
from keyclave.crypto.suites import KeySpec, Purpose
from keyclave.keys.model import Cryptoperiod, Rotation
from keyclave.keys.periods import checked
from keyclave.operations import imports
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.fields import from_base64
from keyclave.operations.forms import Answer, Base64, Empty, KeyName, Request, TagValue, Text
from keyclave.operations.key_view import KeyView
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.new_keys import NewKey, described, keep, new_id
from keyclave.store.moments import Moment

Tags = Annotated[dict[Text, TagValue], Meta(max_length=limits.TAGS)]

IMPORT_WINDOW = 3600 * 1_000_000  # microseconds that import parameters live
_SEPARATE = 512  # bytes: the RSA-4096 part of wrapped import material


class Description(Request, kw_only=True):
    """What is said of a key when it is made. `stale_ok`: nodes that are cut off may go on decrypting with it for a while."""

    name: KeyName
    spec: KeySpec = KeySpec.AES_256
    purpose: Purpose = Purpose.ENCRYPT
    owner: Text
    environment: Text = "production"
    classification: Text = "ePHI"
    tags: Tags = {}
    cryptoperiod: Cryptoperiod | None = None
    rotation: Rotation | None = None
    activate: bool = True
    stale_ok: bool = False


class CreateRequest(Description, kw_only=True):
    """A key to be generated here."""


class ImportRequest(Description, kw_only=True):
    """A key made elsewhere: wrapped to the parameters of `token`; `kcv` is the key-check value to expect."""

    token: str
    wrapped: Base64
    kcv: str = ""


class ImportParameters(Answer, kw_only=True):
    """Where to wrap to, until when."""

    token: str
    wrapping_key: str
    algorithm: str
    expires_at: int


def create_key(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: CreateRequest) -> Callable[[Connection], KeyView]:
    """Generate a key: a pair now, a symmetric one with its group."""
    alike = attempt.repeat.alike_to(request) if attempt.repeat is not None else None
    if alike is None:
        check_fit(request.spec, request.purpose)
        _describe(attempt, request, "generated")
    else:
        _is_about(attempt, request, alike.detail | {"name": request.name})
    if not request.spec.symmetric:
        return _wrapped(desk, attempt, request, "generated", *generate(desk, request.spec))
    made = NewKey(desk, attempt, request, alike)
    attempt.addition = made.add
    return made.keep


def import_key(
    desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: ImportRequest
) -> Callable[[Connection], KeyView | None]:
    """Register a key that was made elsewhere."""
    check_fit(request.spec, request.purpose)
    offered = imports.find(desk, attempt.caller.tenant, request.token, attempt.at)
    blob = from_base64(request.wrapped, limits.MESSAGE, "wrapped")
    try:
        material, public = _arrived(desk, request, offered, blob)
    except KeyclaveError as error:
        if attempt.dry_run:
            raise
        return imports.failed(attempt, offered, error)
    with material:
        _describe(attempt, request, "imported")
        change = _wrapped(desk, attempt, request, "imported", material, public)

    def use_up(transaction: Connection) -> KeyView:
        imports.use_up(transaction, offered)
        return change(transaction)

    return use_up


def _arrived(desk: Desk, request: ImportRequest, offered: Moment, blob: bytes) -> tuple[Slot, bytes | None]:
    """Return the material that was wrapped and, for a pair, its public half; whatever does not fit is refused."""
    spec = request.spec
    with (
        imports.open_private(desk, offered) as private,
        desk.module.decrypt_private(private, KeySpec.RSA_4096, blob[:_SEPARATE]) as ephemeral,
    ):
        if len(ephemeral) != 32:
            raise Undecipherable
        material = desk.module.kwp_unwrap(ephemeral, blob[_SEPARATE:])
    public = None
    if spec.symmetric:
        if len(material) != spec.length:
            raise Malformed(f"the imported key has {len(material)} bytes", f"{spec.value} takes {spec.length}")
    else:
        pair = desk.module.load_pair(spec, material)
        material, public = pair.private, pair.public
    if request.kcv and request.kcv.lower() != desk.module.key_check(material):
        material.wipe()
        raise Malformed("the key-check value does not match what arrived", "wrap the right key, or correct `kcv`")
    return material, public


def import_parameters(desk: Desk, attempt: Attempt, _key: LoadedKey | None, _request: Empty) -> ImportParameters:
    """Make a one-time wrapping key for one import. It is kept in the transaction of its event."""
    tenant, expires = attempt.caller.tenant, attempt.at + IMPORT_WINDOW
    desk.store.read(lambda conn: imports.check_room(conn, tenant, attempt.at))
    pair = desk.module.generate_pair(KeySpec.RSA_4096)
    token = to_id("imp", desk.module.random(RAW))
    with pair.private as private:
        attempt.spends = (*attempt.spends, imports.offer(desk, tenant, token, private, attempt.at, expires))
    return ImportParameters(
        token=token, wrapping_key=to_pem(pair.public), algorithm="RSA-OAEP-SHA256+AES-KWP", expires_at=expires
    )


def check_fit(spec: KeySpec, purpose: Purpose) -> None:
    """Refuse a specification and a purpose that do not go together: one key, one purpose."""
    if purpose not in spec.purposes:
        fitting = ", ".join(p.value for p in spec.purposes)
        raise Malformed(f"{spec.value} keys are not for {purpose.value}", f"they are for: {fitting}")


def check_stale(purpose: Purpose) -> None:
    """Refuse stale use of a key that nothing is decrypted with in place: there is no other stale use."""
    if purpose is not Purpose.ENCRYPT:
        raise Malformed(f"stale_ok concerns decrypting, and a key for {purpose.value} is for nothing of the kind", "leave it out")


def generate(desk: Desk, spec: KeySpec) -> tuple[Slot, bytes | None]:
    """Return fresh material and, for a pair, its public half."""
    if spec.symmetric:
        return desk.module.random_slot(spec.length), None
    pair = desk.module.generate_pair(spec)
    return pair.private, pair.public


def made_slowly(_key: LoadedKey | None, request: Description) -> bool:
    """Tell whether making this key would hold up the event loop."""
    return request.spec.slow


def _describe(attempt: Attempt, request: Description, origin: str) -> None:
    """Check what is said of the key, and say in the attempt what it will be about."""
    if request.stale_ok:
        check_stale(request.purpose)
    if request.cryptoperiod is not None:
        checked(request.cryptoperiod)
    said = {"name": request.name, "origin": origin, "purpose": request.purpose.value, "spec": request.spec.value}
    _is_about(attempt, request, {**said, "stale_ok": 1} if request.stale_ok else {**said})


def _is_about(attempt: Attempt, request: Description, detail: dict[str, str | int]) -> None:
    attempt.touches = attempt.spared = (request.name,)  # nobody has used it yet, nor knows its id
    attempt.detail = detail


def _wrapped(
    desk: Desk, attempt: Attempt, request: Description, origin: str, material: Slot, public: bytes | None
) -> Callable[[Connection], KeyView]:
    """Return what keeps a key whose material is here; the material is wrapped, and wiped."""
    with material:
        key_id = new_id(attempt, desk.module.random(AFTER_TIME))
        attempt.key_id, attempt.version = key_id, 1
        key = described(attempt, request, key_id, origin, desk.module.key_check(material), public)
        return partial(keep, attempt=attempt, key=key, wrapped=desk.keyring.wrap(key, 1, material))
