"""OpenID Connect, the front half: which provider is believed, where its endpoints are, what is asked of it, what comes back.

Authorization code flow with PKCE (RFC 7636), state, nonce and the issuer in the answer (RFC 9207), after OpenID Connect Core 1.0
and RFC 9700. The provider's document is asked for at one place, the configured issuer, and may name endpoints at configured
origins only: nothing that a token or an answer says leads us anywhere.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from keyclave.core.errors import Malformed, Refused, Unavailable
from keyclave.core.strict_json import read_object
from keyclave.crypto.digest import same, sha256

ALGORITHMS = ("ES256", "RS256", "PS256", "EdDSA")
LOOPBACK = ("127.0.0.1", "::1", "localhost")
LONGEST_DOCUMENT = 65_536  # bytes
LONGEST_CODE = 2048  # characters
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """A provider, as configured.

    `tenant`: name or id of whose people it vouches for, empty for the home tenant. `origins`: where its endpoints may be, the
    issuer's own among them. `groups_claim`: the claim that lists groups, or empty. `least_aal`: what a login must reach.
    `max_age`: seconds since the person proved themselves to the provider, at most.
    """

    name: str
    label: str
    issuer: str
    client_id: str
    redirect_uri: str
    tenant: str = ""
    scopes: tuple[str, ...] = ("openid",)
    origins: frozenset[str] = frozenset()
    groups_claim: str = ""
    acr_values: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ALGORITHMS
    least_aal: int = 1
    max_age: int = 3600


class Discovery(msgspec.Struct, frozen=True, kw_only=True):
    """What of the provider's document counts. `says_issuer`: its answers always carry `iss`."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    says_issuer: bool


def check_provider(provider: Provider, *, development: bool) -> None:
    """Refuse settings under which somebody could be believed who should not be."""
    where = f"oidc {provider.name!r}"
    if not _NAME.fullmatch(provider.name):
        raise Malformed(f"{where}: this cannot name a provider", "use small letters, digits and dashes, a letter first")
    origin_of(provider.issuer, where, development=development)
    if urlsplit(provider.issuer).query:
        raise Malformed(f"{where}: the issuer has a query", "write it exactly as the provider's document does")
    for origin in provider.origins:
        if origin_of(origin, where, development=development) != origin:
            raise Malformed(f"{where}: {origin!r} is no origin", "write it like https://keys.example.org, without a path")
    if not provider.algorithms or not set(provider.algorithms) <= set(ALGORITHMS):
        raise Malformed(f"{where}: algorithms that are not taken", f"choose among {', '.join(ALGORITHMS)}")
    if "openid" not in provider.scopes:
        raise Malformed(f"{where}: scopes leave out openid", 'add "openid": without it the provider says nothing of who it is')
    if not provider.client_id or len(provider.client_id) > 256:
        raise Malformed(f"{where}: there is no client_id", "give the one that the provider registered")


def origin_of(url: str, where: str, *, development: bool) -> str:
    """Return scheme, host and port of an address that may be asked: https, or http on this machine in development."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    plain = parts.scheme == "http" and development and parts.hostname in LOOPBACK
    if (parts.scheme != "https" and not plain) or not parts.hostname or parts.username or parts.fragment or port == -1:
        raise Malformed(f"{where}: {url!r} is not an address that is asked", "it begins with https:// and names a host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + ("" if port is None else f":{port}")


def discovery_url(provider: Provider) -> str:
    """Return where the provider's document is (OpenID Connect Discovery section 4)."""
    return provider.issuer.rstrip("/") + "/.well-known/openid-configuration"


def read_discovery(raw: bytes, provider: Provider, *, development: bool) -> Discovery:
    """Return what counts of a provider's document; `Unavailable` for one that is not what it should be.

    Its issuer must be, letter for letter, the configured one: else one provider could speak for another (section 4.3).
    """
    said = read_object(raw, LONGEST_DOCUMENT)
    if said is None or said.get("issuer") != provider.issuer:
        raise unusable(provider, "its document is not that of the configured issuer")
    found: dict[str, str] = {}
    allowed = provider.origins | {origin_of(provider.issuer, provider.name, development=development)}
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        url = said.get(name)
        try:
            known = isinstance(url, str) and len(url) <= 1024 and origin_of(url, name, development=development) in allowed
        except Malformed:
            known = False
        if not known:
            raise unusable(provider, f"its {name} is at an origin that is not configured")
        found[name] = str(url)
    methods = said.get("code_challenge_methods_supported", ["S256"])
    if not isinstance(methods, list) or "S256" not in methods:
        raise unusable(provider, "it does not know PKCE with S256")
    says = said.get("authorization_response_iss_parameter_supported") is True
    return Discovery(**found, says_issuer=says)


def authorization_url(provider: Provider, found: Discovery, state: str, *, nonce: str, verifier: str, fresh: bool) -> str:
    """Return where the browser is sent. `fresh`: the person must prove themselves anew, not lean on a session there."""
    asked = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": provider.redirect_uri,
        "scope": " ".join(provider.scopes),
        "state": state,
        "nonce": nonce,
        "code_challenge": challenge_of(verifier),
        "code_challenge_method": "S256",
        "max_age": "0" if fresh else str(provider.max_age),  # with it, auth_time is in the token (Core section 3.1.2.1)
    }
    if fresh:
        asked["prompt"] = "login"
    if provider.acr_values:
        asked["acr_values"] = " ".join(provider.acr_values)
    joint = "&" if urlsplit(found.authorization_endpoint).query else "?"
    return found.authorization_endpoint + joint + urlencode(asked, quote_via=quote)


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of a verifier (RFC 7636 section 4.2)."""
    return base64.urlsafe_b64encode(sha256(verifier.encode("ascii", "replace"))).decode().rstrip("=")


def read_callback(provider: Provider, found: Discovery, said: Mapping[str, str], state: str) -> str:
    """Return the code that came back, or refuse: another login's state, another provider's answer, no code.

    The state is compared first: what else a stranger's link says is not even looked at.
    """
    if not same(said.get("state", "").encode(), state.encode()):
        raise not_signed_on()
    issuer = said.get("iss")
    if (issuer is None and found.says_issuer) or (issuer is not None and issuer != provider.issuer):
        raise not_signed_on()
    code = said.get("code", "")
    if "error" in said or not code or len(code) > LONGEST_CODE or not code.isascii() or not code.isprintable():
        raise not_signed_on()
    return code


def not_signed_on() -> Refused:
    """Return the one answer for whatever is wrong with what a browser brings back."""
    return Refused("the sign-on did not succeed", "begin again at the login page")


def unusable(provider: Provider, why: str) -> Unavailable:
    """Return the error of a provider that does not do its part."""
    return Unavailable(f"the provider {provider.name} cannot be used: {why}", "log in with a passkey; tell an operator")
