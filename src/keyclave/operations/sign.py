"""sign, verify, mac, verify-mac: with keys that never leave. A check that fails is an error, never a `false` to be overlooked."""

from __future__ import annotations

from keyclave.core import limits
from keyclave.core.errors import Malformed, Unknown
from keyclave.crypto.suites import KeySpec, MacAlgorithm, Purpose, SignatureAlgorithm
from keyclave.operations.attempt import Attempt
from keyclave.operations.desk import Desk
from keyclave.operations.fields import from_base64, to_base64
from keyclave.operations.forms import Answer, Base64, Number, Request
from keyclave.operations.keyring import Handle, LoadedKey
from keyclave.operations.sealing import account

_LONGEST_SIGNATURE = 8192


class SignRequest(Request, kw_only=True):
    """`digested`: the message is already the digest that the algorithm names."""

    message: Base64
    digested: bool = False
    algorithm: SignatureAlgorithm | None = None


class SignAnswer(Answer, kw_only=True):
    """The signature, by which algorithm, and which version's public key verifies it."""

    signature: Base64
    algorithm: str
    key: str
    version: int


class VerifyRequest(Request, kw_only=True):
    """`version` omitted: the primary one."""

    message: Base64
    signature: Base64
    digested: bool = False
    algorithm: SignatureAlgorithm | None = None
    version: Number | None = None


class ValidAnswer(Answer, kw_only=True):
    """It verifies; anything else is the error `invalid_signature`."""

    valid: bool
    key: str
    version: int


class MacRequest(Request, kw_only=True):
    """A message to authenticate."""

    message: Base64
    algorithm: MacAlgorithm | None = None


class MacAnswer(Answer, kw_only=True):
    """The MAC, by which algorithm and version."""

    mac: Base64
    algorithm: str
    key: str
    version: int


class VerifyMacRequest(Request, kw_only=True):
    """`version` omitted: the primary one."""

    message: Base64
    mac: Base64
    algorithm: MacAlgorithm | None = None
    version: Number | None = None


def sign(desk: Desk, attempt: Attempt, key: LoadedKey, request: SignRequest) -> SignAnswer:
    """Sign with the primary version."""
    message = from_base64(request.message, limits.MESSAGE, "message")
    handle = desk.keyring.protecting(key, Purpose.SIGN, attempt.at)
    algorithm = signature_algorithm(handle.spec, request.algorithm)
    attempt.version, attempt.detail = handle.number, {"algorithm": algorithm.value}
    account(attempt, handle)
    signature = desk.module.sign(handle.slot, handle.spec, algorithm, message, digested=request.digested)
    return SignAnswer(signature=to_base64(signature), algorithm=algorithm.value, key=handle.key_id, version=handle.number)


def verify(desk: Desk, attempt: Attempt, key: LoadedKey, request: VerifyRequest) -> ValidAnswer:
    """Verify with the version named, or the primary one."""
    message = from_base64(request.message, limits.MESSAGE, "message")
    signature = from_base64(request.signature, _LONGEST_SIGNATURE, "signature")
    handle = desk.keyring.processing(key, Purpose.SIGN, _number(key, request.version))
    algorithm = signature_algorithm(handle.spec, request.algorithm)
    attempt.version, attempt.detail = handle.number, {"algorithm": algorithm.value}
    public = handle.public or b""
    desk.module.verify(public, handle.spec, algorithm, message, signature, digested=request.digested)
    return ValidAnswer(valid=True, key=handle.key_id, version=handle.number)


def mac(desk: Desk, attempt: Attempt, key: LoadedKey, request: MacRequest) -> MacAnswer:
    """Compute a MAC with the primary version."""
    message = from_base64(request.message, limits.MESSAGE, "message")
    handle = desk.keyring.protecting(key, Purpose.MAC, attempt.at)
    algorithm = mac_algorithm(handle.spec, request.algorithm)
    attempt.version, attempt.detail = handle.number, {"algorithm": algorithm.value}
    account(attempt, handle)
    code = desk.module.mac(handle.slot, algorithm, message)
    return MacAnswer(mac=to_base64(code), algorithm=algorithm.value, key=handle.key_id, version=handle.number)


def verify_mac(desk: Desk, attempt: Attempt, key: LoadedKey, request: VerifyMacRequest) -> ValidAnswer:
    """Verify a MAC with the version named, or the primary one."""
    message = from_base64(request.message, limits.MESSAGE, "message")
    code = from_base64(request.mac, _LONGEST_SIGNATURE, "mac")
    handle = desk.keyring.processing(key, Purpose.MAC, _number(key, request.version))
    algorithm = mac_algorithm(handle.spec, request.algorithm)
    attempt.version, attempt.detail = handle.number, {"algorithm": algorithm.value}
    desk.module.verify_mac(handle.slot, algorithm, message, code)
    return ValidAnswer(valid=True, key=handle.key_id, version=handle.number)


def signature_algorithm(spec: KeySpec, wanted: SignatureAlgorithm | None) -> SignatureAlgorithm:
    """Return the algorithm that is wanted, or the default of the key; one that does not fit the key is `Malformed`."""
    fitting = SignatureAlgorithm.fitting(spec)
    if wanted is None:
        return fitting[0]
    if wanted not in fitting:
        known = ", ".join(a.value for a in fitting)
        raise Malformed(f"a key of {spec.value} does not sign with {wanted.value}", f"it signs with: {known}")
    return wanted


def mac_algorithm(spec: KeySpec, wanted: MacAlgorithm | None) -> MacAlgorithm:
    """Return the one MAC algorithm of the key; another is `Malformed`."""
    algorithm = MacAlgorithm(spec.value)
    if wanted not in (None, algorithm):
        raise Malformed(f"a key of {spec.value} does not compute that MAC", f"it computes {algorithm.value}")
    return algorithm


def _number(key: LoadedKey, version: int | None) -> int:
    number = key.key.primary if version is None else version
    if number is None or key.key.version(number) is None:
        raise Unknown("no such key version", "see `keyclave key show` for its versions")
    return number


def signs_slowly(key: LoadedKey | None, _request: object) -> bool:
    """Tell whether this key's private operation would hold up the event loop."""
    return key is not None and KeySpec(key.key.spec).slow


def handle_of(desk: Desk, attempt: Attempt, key: LoadedKey, purpose: Purpose, version: int | None) -> Handle:
    """Return the version that a private-key operation uses: the one named, or the primary."""
    handle = desk.keyring.processing(key, purpose, _number(key, version))
    attempt.version = handle.number
    return handle
