"""ID tokens: the checks of OpenID Connect Core 1.0 section 3.1.3.7 and RFC 8725, all of them, with one answer for every failure.

The header of a token chooses nothing but which of the provider's published keys is tried. The algorithm must be on the list and
fit the key; a header that brings or points to a key (jwk, jku, x5c, x5u) or asks for extensions (crit) is refused.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import msgspec

from keyclave.core.errors import Refused
from keyclave.core.strict_json import read_object
from keyclave.crypto.digest import same, sha256, sha512
from keyclave.identity.oidc import Provider, not_signed_on

LONGEST = 32_768  # bytes of a token: groups can be many
LONGEST_KEYS = 131_072  # bytes of a JWK set
SKEW = 60  # seconds by which the provider's clock may differ from ours
_OLDEST = 600  # seconds since a token was issued: it answers a login of a few minutes
_LONGEST_LIFE = 86_400
_MOST_KEYS = 64
_HEADER = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})
_PART = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_FITS = {"ES256": ("EC", "P-256"), "RS256": ("RSA", None), "PS256": ("RSA", None), "EdDSA": ("OKP", "Ed25519")}
_PUBLIC = ("kty", "n", "e", "crv", "x", "y")
_RSA_BITS = (2048, 8192)

Jwk = dict[str, Any]


class Vouched(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider vouches for, verified. `proved_at`: when the person proved themselves there, in seconds."""

    subject: str
    proved_at: int
    acr: str
    amr: tuple[str, ...]
    groups: tuple[str, ...]


class NoSuchKey(Refused):
    """The token names a key that is not in the set: the provider may have changed its keys."""


def read_keys(raw: bytes) -> tuple[Jwk, ...] | None:
    """Return the usable public signature keys of a JWK set (RFC 7517), or None where it is no set. Secret keys are dropped."""
    said = read_object(raw, LONGEST_KEYS)
    listed = None if said is None else said.get("keys")
    if not isinstance(listed, list) or len(listed) > _MOST_KEYS:
        return None
    return tuple(key for key in listed if isinstance(key, dict) and _usable(key))


def _usable(key: Jwk) -> bool:
    fits = any(kind == key.get("kty") and curve in (None, key.get("crv")) for kind, curve in _FITS.values())
    named = all(isinstance(key.get(name, ""), str) for name in (*_PUBLIC, "kid", "alg", "use"))
    return fits and named and "d" not in key and "k" not in key and key.get("use", "sig") == "sig"


def read_id_token(
    token: str, provider: Provider, keys: tuple[Jwk, ...], *, nonce: str, access_token: str, now: int, fresh_since: int = 0
) -> Vouched:
    """Return what an ID token vouches for at `now` (seconds). `fresh_since`: the proof must be younger, where it is not 0.

    Raise `NoSuchKey` where a key is named that is not known, and the one refusal for everything else.
    """
    parts = token.split(".") if len(token) <= LONGEST else []
    if len(parts) != 3 or not all(_PART.fullmatch(part) for part in parts):
        raise not_signed_on()
    header, claims = read_object(_decoded(parts[0]), LONGEST), read_object(_decoded(parts[1]), LONGEST)
    if header is None or claims is None:
        raise not_signed_on()
    algorithm = _algorithm(header, provider)
    if not _verifies(token, _key(header, algorithm, keys), algorithm):
        raise not_signed_on()
    _check_parties(claims, provider)
    _check_times(claims, now)
    if not isinstance(claims.get("nonce"), str) or not same(claims["nonce"].encode(), nonce.encode()):
        raise not_signed_on()
    if "at_hash" in claims and claims["at_hash"] != _half_hash(access_token, algorithm):
        raise not_signed_on()
    return Vouched(
        subject=_subject(claims),
        proved_at=_proved_at(claims, provider, now, fresh_since),
        acr=claims["acr"] if isinstance(claims.get("acr"), str) else "",
        amr=_texts(claims.get("amr")),
        groups=_texts(claims.get(provider.groups_claim)) if provider.groups_claim else (),
    )


def _algorithm(header: Jwk, provider: Provider) -> str:
    algorithm, kind = header.get("alg"), header.get("typ", "JWT")
    if not set(header) <= _HEADER or not isinstance(algorithm, str) or algorithm not in provider.algorithms:
        raise not_signed_on()
    if not isinstance(kind, str) or kind.upper() != "JWT":  # a token made for something else (at+jwt, logout+jwt) is not this
        raise not_signed_on()
    return algorithm


def _key(header: Jwk, algorithm: str, keys: tuple[Jwk, ...]) -> Jwk:
    """Return the provider's key that the token names, or its only one that fits where the token names none."""
    kind, curve = _FITS[algorithm]
    fitting = [
        key
        for key in keys
        if key["kty"] == kind and curve in (None, key.get("crv")) and key.get("alg", algorithm) in (algorithm, "Ed25519")
    ]
    if "kid" in header:
        if not isinstance(header["kid"], str):
            raise not_signed_on()
        fitting = [key for key in fitting if key.get("kid") == header["kid"]]
    if not fitting:
        raise NoSuchKey("the sign-on did not succeed", "begin again at the login page")
    if len(fitting) > 1:  # two keys of one name, or none named among several: which one counts is anybody's guess
        raise not_signed_on()
    return fitting[0]


def _verifies(token: str, key: Jwk, algorithm: str) -> bool:
    import warnings

    from joserfc import jws  # here, not above: a server without single sign-on need not load it
    from joserfc.errors import JoseError
    from joserfc.jwk import import_key

    kept = {name: key[name] for name in _PUBLIC if name in key}
    registry = jws.JWSRegistry(algorithms=[algorithm])
    registry.max_header_length, registry.max_payload_length = LONGEST, LONGEST
    try:
        if key["kty"] == "RSA" and not _RSA_BITS[0] <= len(_decoded(str(key.get("n")))) * 8 <= _RSA_BITS[1]:
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # EdDSA is called Ed25519 since RFC 9864; providers still say EdDSA
            jws.deserialize_compact(token, import_key(kept), algorithms=[algorithm], registry=registry)
    except (JoseError, Refused, ValueError, TypeError, KeyError):
        return False
    return True


def _check_parties(claims: Jwk, provider: Provider) -> None:
    """Check who issued it, and that it was issued to us: an `azp` that is there is us, and it is there for several."""
    audience = claims.get("aud")
    listed = audience if isinstance(audience, list) else [audience]
    if claims.get("iss") != provider.issuer or provider.client_id not in listed:
        raise not_signed_on()
    if ("azp" in claims or len(listed) > 1) and claims.get("azp") != provider.client_id:
        raise not_signed_on()
    if not all(isinstance(one, str) for one in listed):
        raise not_signed_on()


def _check_times(claims: Jwk, now: int) -> None:
    issued, expires = _time(claims.get("iat")), _time(claims.get("exp"))
    begins = _time(claims.get("nbf", 0))
    if max(issued, begins) > now + SKEW or now >= expires + SKEW or issued < now - _OLDEST - SKEW:
        raise not_signed_on()
    if expires <= issued or expires - issued > _LONGEST_LIFE:
        raise not_signed_on()


def _time(said: Any) -> int:
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said < 2**40:
        raise not_signed_on()
    return int(said)


def _proved_at(claims: Jwk, provider: Provider, now: int, fresh_since: int) -> int:
    """Return when the person proved themselves: it was asked for, so it must be there, and be as young as was asked."""
    proved = _time(claims.get("auth_time"))
    since = fresh_since or now - provider.max_age
    if proved > now + SKEW or proved < since - SKEW:
        raise not_signed_on()
    return min(proved, now)


def _subject(claims: Jwk) -> str:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= 255 or not subject.isascii() or not subject.isprintable():
        raise not_signed_on()
    return subject


def _texts(said: Any) -> tuple[str, ...]:
    listed = said if isinstance(said, list) else [said]
    return tuple(one for one in listed[:1024] if isinstance(one, str) and len(one) <= 256)


def _half_hash(access_token: str, algorithm: str) -> str:
    """Return the left half of the access token's hash (Core section 3.1.3.6); Ed25519 hashes with SHA-512."""
    digest = sha512(access_token.encode()) if algorithm == "EdDSA" else sha256(access_token.encode())
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).decode().rstrip("=")


def _decoded(part: str) -> bytes:
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise not_signed_on() from None
    if base64.urlsafe_b64encode(raw).decode().rstrip("=") != part:  # spare bits: one token, one spelling
        raise not_signed_on()
    return raw
