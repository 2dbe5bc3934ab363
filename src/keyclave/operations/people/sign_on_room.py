"""Providers of single sign-on as they are known now: their document and keys, asked for again when that is due.

Everything asked of a provider goes through a `Channel`, which `app` makes. What does not answer, or not as it should, is
`Unavailable`: nobody is let in on what was known long ago.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

import msgspec

from keyclave.core.clock import MICROSECONDS, Clock
from keyclave.core.errors import Unavailable
from keyclave.core.strict_json import read_object
from keyclave.identity.oidc import (
    LONGEST_DOCUMENT,
    Discovery,
    Provider,
    discovery_url,
    not_signed_on,
    read_discovery,
    unusable,
)
from keyclave.identity.oidc_client import Client
from keyclave.identity.oidc_tokens import Jwk, NoSuchKey, Vouched, read_id_token, read_keys

_FRESH = 600 * MICROSECONDS  # how long a document or a set of keys is believed: a key withdrawn there is gone here by then
_SILENT = 5 * MICROSECONDS  # how long a provider that did not answer is not asked again: a crowd must not queue up behind it
_SOONEST = 30 * MICROSECONDS  # between two questions for keys because of an unknown one: else anybody could have us ask


class Channel(Protocol):
    """Asks a provider, at configured addresses, in bounded time and size; raises `Unavailable` for anything but an answer."""

    async def get(self, url: str, most: int) -> bytes:
        """Return the body of a successful answer."""
        ...

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str], most: int) -> tuple[int, bytes]:
        """Return status and body of whatever answer."""
        ...


class Tokens(msgspec.Struct, frozen=True):
    """What the token endpoint gave. The access token is used for nothing but `at_hash`."""

    id_token: str
    access_token: str

    def __repr__(self) -> str:
        return "Tokens()"


class House:
    """One provider. The event loop owns it."""

    def __init__(self, provider: Provider, client: Client, channel: Channel, clock: Clock, *, development: bool) -> None:
        self.provider = provider
        self._client = client
        self._channel = channel
        self._clock = clock
        self._development = development
        self._asking = asyncio.Lock()
        self._document: Discovery | None = None
        self._document_at = 0
        self._keys: tuple[Jwk, ...] = ()
        self._keys_at = 0
        self._asked_again_at = 0
        self._silent_at = 0

    async def document(self) -> Discovery:
        """Return the provider's document, not older than ten minutes."""
        async with self._asking:  # a hundred who come at once ask once
            now = self._clock.now()
            if self._document is None or now - self._document_at > _FRESH:
                raw = await self._get(discovery_url(self.provider))
                self._document = read_discovery(raw, self.provider, development=self._development)
                self._document_at = now
            return self._document

    async def redeem(self, code: str, verifier: str) -> Tokens:
        """Trade a code for tokens (RFC 6749 section 4.1.3)."""
        endpoint = (await self.document()).token_endpoint
        proof = self._client.prove(endpoint, self._seconds())
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.provider.redirect_uri,
            "code_verifier": verifier,
            **proof.form,
        }
        status, raw = await self._channel.post(endpoint, form, proof.headers, LONGEST_DOCUMENT)
        said = read_object(raw, LONGEST_DOCUMENT)
        if status != 200:  # a code used twice, not ours, or over; or our own proof is wrong, which the provider's log says
            if 400 <= status < 500 and status != 429:
                raise not_signed_on()
            raise unusable(self.provider, "its token endpoint fails")
        given = {} if said is None else said
        identity, access, kind = given.get("id_token"), given.get("access_token", ""), given.get("token_type", "")
        if not isinstance(identity, str) or not isinstance(access, str) or str(kind).lower() != "bearer":
            raise unusable(self.provider, "its token endpoint gave no ID token")
        return Tokens(identity, access)

    async def verify(self, tokens: Tokens, nonce: str, fresh_since: int) -> Vouched:
        """Return what the ID token vouches for; for a key that is not known, the provider's keys are read anew, not too often."""
        keys, just_read = await self._known_keys(self._clock.now() - _FRESH)
        try:
            return self._read(tokens, keys, nonce, fresh_since)
        except NoSuchKey:
            now = self._clock.now()
            if just_read or now - self._asked_again_at < _SOONEST:
                raise
            self._asked_again_at = now
        keys, _ = await self._known_keys(now)
        return self._read(tokens, keys, nonce, fresh_since)

    def _read(self, tokens: Tokens, keys: tuple[Jwk, ...], nonce: str, fresh_since: int) -> Vouched:
        return read_id_token(
            tokens.id_token,
            self.provider,
            keys,
            nonce=nonce,
            access_token=tokens.access_token,
            now=self._seconds(),
            fresh_since=fresh_since,
        )

    async def _known_keys(self, since: int) -> tuple[tuple[Jwk, ...], bool]:
        """Return the keys, read after `since`, and whether they were read just now."""
        address = (await self.document()).jwks_uri
        async with self._asking:
            if self._keys_at > since:
                return self._keys, False
            keys = read_keys(await self._get(address))
            if not keys:
                raise unusable(self.provider, "it publishes no key that can be used")
            self._keys, self._keys_at = keys, self._clock.now()
            return keys, True

    async def _get(self, url: str) -> bytes:
        if self._silent_at and self._clock.now() - self._silent_at < _SILENT:
            raise unusable(self.provider, "it did not answer a moment ago")
        try:
            return await self._channel.get(url, LONGEST_DOCUMENT)
        except Unavailable:
            self._silent_at = self._clock.now()
            raise

    def _seconds(self) -> int:
        return self._clock.now() // MICROSECONDS
