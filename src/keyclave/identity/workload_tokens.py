"""Tokens of issuers outside (Kubernetes service accounts, OpenID Connect, JWT-SVID): verified strictly, mapped to a SPIFFE ID.

The header of a token chooses nothing but which of the issuer's own keys is tried: the algorithm must be on the issuer's list and
fit the key, and a header that brings or points to a key (jwk, jku, x5c, x5u) or asks for extensions (crit) is refused (RFC 8725
sections 3.1, 3.2 and 3.10). RFC 7519, RFC 7515, RFC 7800, RFC 8705 section 3.1, JWT-SVID sections 3 and 4.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from keyclave.core.errors import Malformed, Unauthenticated
from keyclave.identity.spiffe import SCHEME, check_domain, parse_workload

LONGEST = 8192  # bytes of a token
LONGEST_KEYS = 262_144  # bytes of a JWK set
_SKEW = 60  # seconds
_LONGEST_LIFE = 86_400  # seconds that a token may live: it opens what a certificate of a day opens
_HEADER = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})
_TYPES = frozenset({"jwt", "jose", "at+jwt"})
_FITS = {
    "ES256": ("EC", "P-256"), "ES384": ("EC", "P-384"), "ES512": ("EC", "P-521"), "RS256": ("RSA", None), "RS384": ("RSA", None),
    "RS512": ("RSA", None), "PS256": ("RSA", None), "PS384": ("RSA", None), "PS512": ("RSA", None),
}  # fmt: skip
_PART = re.compile(rb"[A-Za-z0-9_-]+")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]{1,253}", re.ASCII)
_CLAIM = re.compile(r"\{([a-z_]{1,32})\}", re.ASCII)
_RSA_BYTES = 256  # of the modulus: 2048 bits


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """Whose tokens are believed, for what. `domain` and `path` make the SPIFFE ID: `path` has claims in braces.

    `kind`: kubernetes (bound service-account tokens: {namespace}, {service_account}), oidc ({sub} and other text claims), or
    spiffe (JWT-SVIDs, whose subject is the ID; no path).
    """

    label: str
    tenant: str
    issuer: str
    audience: str
    domain: str
    path: str
    kind: str
    algorithms: tuple[str, ...] = ("ES256", "RS256")


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says, verified. `thumbprint`: of the certificate that must come with it, or empty. Times in seconds."""

    issuer: Issuer
    name: str
    issued_at: int
    expires_at: int
    thumbprint: bytes


Keys = tuple[Mapping[str, Any], ...]


def check_issuer(issuer: Issuer) -> None:
    """Refuse settings under which a token could be believed that should not be."""
    where = f"issuer {issuer.label}"
    if not issuer.issuer or not issuer.audience:
        raise Malformed(f"{where}: issuer and audience name something", "give the audience that names this server alone")
    if not issuer.algorithms or not set(issuer.algorithms) <= set(_FITS):
        raise Malformed(f"{where}: algorithms that are not taken", f"choose among {', '.join(_FITS)}")
    check_domain(issuer.domain)
    if issuer.kind == "spiffe":
        if issuer.path:
            raise Malformed(f"{where}: a JWT-SVID brings its own path", "leave path empty")
        return
    claims = _CLAIM.findall(issuer.path)
    known = {"namespace", "service_account"} if issuer.kind == "kubernetes" else {"sub"}
    if not known <= set(claims):  # two subjects of one issuer must never be given one name
        raise Malformed(
            f"{where}: path leaves out who it is", f"it holds {' and '.join('{' + one + '}' for one in sorted(known))}"
        )
    parse_workload(f"{SCHEME}{issuer.domain}{_CLAIM.sub('x', issuer.path)}")


def read_keys(data: bytes) -> Keys:
    """Return the public keys of a JWK set (RFC 7517) that are for signatures and of kinds known here; `Malformed` for none."""
    try:
        found = _parsed(data) if len(data) <= LONGEST_KEYS else {}
    except Unauthenticated:
        found = {}
    listed = found.get("keys")
    keys = [one for one in listed if isinstance(one, dict) and _usable(one)] if isinstance(listed, list) else []
    if not keys:
        raise Malformed("this is no JWK set with a key that can be used", "it holds public RSA or EC keys for signatures")
    return tuple(keys)


def _usable(key: Mapping[str, Any]) -> bool:
    fits = any(kind == key.get("kty") and curve in (None, key.get("crv")) for kind, curve in _FITS.values())
    return fits and "d" not in key and key.get("use", "sig") == "sig"


def read_token(token: bytes, issuers: Iterable[Issuer], keys: Mapping[str, Keys], now: int) -> Token:
    """Return what a token says at `now` (seconds), or raise `Unauthenticated`: one answer for every reason."""
    parts = token.split(b".") if len(token) <= LONGEST else []
    if len(parts) != 3 or not all(_PART.fullmatch(part) for part in parts):
        raise _nobody()
    header, claims = _parsed(_decoded(parts[0])), _parsed(_decoded(parts[1]))
    issuer = _issuer(claims, issuers)
    algorithm = _algorithm(header, issuer)
    for key in _candidates(header, algorithm, keys.get(issuer.label, ())):
        if _verifies(token.decode(), key, algorithm):
            break
    else:
        raise _nobody()
    issued_at, expires_at = _times(claims, now)
    _check_audience(claims.get("aud"), issuer.audience)
    return Token(
        issuer=issuer,
        name=_name(claims, issuer),
        issued_at=issued_at,
        expires_at=expires_at,
        thumbprint=_confirmation(claims),
    )


def _issuer(claims: Mapping[str, Any], issuers: Iterable[Issuer]) -> Issuer:
    """Find whose keys are to be tried; what the token says of itself is believed only once they have verified it."""
    said = claims.get("iss")
    for issuer in issuers:
        if said == issuer.issuer:
            return issuer
        subject = claims.get("sub")
        if said is None and issuer.kind == "spiffe" and str(subject).startswith(f"{SCHEME}{issuer.domain}/"):
            return issuer  # the issuer's name is optional in a JWT-SVID: the trust domain says whose it is
    raise _nobody()


def _algorithm(header: Mapping[str, Any], issuer: Issuer) -> str:
    algorithm = header.get("alg")
    if not set(header) <= _HEADER or not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
        raise _nobody()
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise _nobody()
    return algorithm


def _candidates(header: Mapping[str, Any], algorithm: str, keys: Keys) -> list[Mapping[str, Any]]:
    """Return the issuer's keys that fit the algorithm, those of the key id where the token names one; never one it brings."""
    kind, curve = _FITS[algorithm]
    fitting = [
        key
        for key in keys
        if key["kty"] == kind and curve in (None, key.get("crv")) and key.get("alg", algorithm) == algorithm and _strong(key)
    ]
    if "kid" in header:
        if not isinstance(header["kid"], str):
            raise _nobody()
        return [key for key in fitting if key.get("kid") == header["kid"]][:1]
    return fitting if len(fitting) == 1 else []


def _strong(key: Mapping[str, Any]) -> bool:
    return key["kty"] != "RSA" or len(str(key.get("n", ""))) * 3 // 4 >= _RSA_BYTES


def _verifies(token: str, key: Mapping[str, Any], algorithm: str) -> bool:
    from joserfc import jws  # here, not above: a server without issuers need not load it
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, RSAKey

    kept = {name: value for name, value in key.items() if name in ("kty", "n", "e", "crv", "x", "y")}
    try:
        loaded = RSAKey.import_key(kept) if key["kty"] == "RSA" else ECKey.import_key(kept)
        jws.deserialize_compact(token, loaded, algorithms=[algorithm])
    except (JoseError, ValueError, TypeError, KeyError):
        return False
    return True


def _times(claims: Mapping[str, Any], now: int) -> tuple[int, int]:
    issued, expires, begins = claims.get("iat"), claims.get("exp"), claims.get("nbf", 0)
    for when in (issued, expires, begins):
        if isinstance(when, bool) or not isinstance(when, int | float) or not 0 <= when < 2**40:
            raise _nobody()
    issued_at, expires_at = int(issued or 0), int(expires or 0)
    if not max(issued_at, int(begins)) - _SKEW <= now < expires_at or expires_at - issued_at > _LONGEST_LIFE:
        raise _nobody()
    return issued_at, expires_at


def _check_audience(said: Any, ours: str) -> None:
    listed = said if isinstance(said, list) else [said]
    if ours not in listed or not all(isinstance(one, str) for one in listed):
        raise _nobody()


def _name(claims: Mapping[str, Any], issuer: Issuer) -> str:
    subject = claims.get("sub")
    if not isinstance(subject, str):
        raise _nobody()
    values = dict(claims)
    if issuer.kind == "kubernetes":
        values = _service_account(claims, subject)
    elif issuer.kind == "spiffe":
        values = {}
    path = _CLAIM.sub(lambda match: _segment(values.get(match[1])), issuer.path)
    try:
        found = parse_workload(subject if issuer.kind == "spiffe" else f"{SCHEME}{issuer.domain}{path}")
    except Malformed:
        raise _nobody() from None
    if found.domain != issuer.domain:
        raise _nobody()
    return str(found)


def _service_account(claims: Mapping[str, Any], subject: str) -> dict[str, Any]:
    """Return namespace and service account of a token that is bound to a pod: the secret-based kind, which never ends, is not."""
    bound = claims.get("kubernetes.io")
    account = bound.get("serviceaccount") if isinstance(bound, dict) else None
    pod = bound.get("pod") if isinstance(bound, dict) else None
    if not isinstance(bound, dict) or not isinstance(account, dict) or not isinstance(pod, dict) or not pod.get("uid"):
        raise _nobody()
    namespace, name = bound.get("namespace"), account.get("name")
    if subject != f"system:serviceaccount:{namespace}:{name}":
        raise _nobody()
    return {"namespace": namespace, "service_account": name}


def _segment(value: Any) -> str:
    """Return a claim as one segment of a path; what could be read as more than one is refused."""
    if not isinstance(value, str) or not _SEGMENT.fullmatch(value) or value in (".", ".."):
        raise _nobody()
    return value


def _confirmation(claims: Mapping[str, Any]) -> bytes:
    """Return the thumbprint that a token is bound to (RFC 8705 section 3.1); another kind of binding cannot be checked here."""
    if "cnf" not in claims:
        return b""
    bound = claims["cnf"]
    said = bound.get("x5t#S256") if isinstance(bound, dict) and len(bound) == 1 else None
    if not isinstance(said, str) or len(said) != 43 or not _PART.fullmatch(said.encode("ascii", "replace")):
        raise _nobody()
    return _decoded(said.encode())


def _decoded(part: bytes) -> bytes:
    import base64
    import binascii

    try:
        raw = base64.b64decode(part + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise _nobody() from None
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != part:  # spare bits: one token, one spelling
        raise _nobody()
    return raw


def _parsed(raw: bytes) -> dict[str, Any]:
    """Parse a JSON object; a name that is there twice is refused, for which one counts differs between readers."""
    try:
        found = json.loads(raw, object_pairs_hook=_once, parse_constant=_never)
    except (ValueError, RecursionError):
        raise _nobody() from None
    if not isinstance(found, dict):
        raise _nobody()
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _never(_text: str) -> None:
    raise ValueError


def _nobody() -> Unauthenticated:
    return Unauthenticated("no live credential was presented", "send a current token of an issuer that this server believes")
