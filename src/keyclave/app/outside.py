"""What changes outside and is followed here: JWK sets of token issuers, revocation lists of outside authorities.

A file is read again when it changes, an address asked again every `refresh_seconds`, and sooner when a token came that no known
key verifies (the issuer may have changed its keys), but not more often than every ten seconds: else anybody could have us ask.
What cannot be read leaves what was known in force, except a revocation list that is over: then its authority's certificates are
believed no more, for nobody knows which of them are revoked.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING

from keyclave.app.config import Config, OutsideAuthority, TokenIssuer
from keyclave.core.errors import KeyclaveError, Malformed, Unavailable
from keyclave.crypto.x509 import certificates_in
from keyclave.crypto.x509_authority import read_revocation_list
from keyclave.identity.workload_tokens import LONGEST_KEYS, read_keys
from keyclave.operations.desk import Desk

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger("keyclave")

_LOOK_SECONDS = 1.0
_FILES_SECONDS = 5.0
_SOONEST = 10.0  # seconds between two questions to an issuer
_ANSWER_SECONDS = 10.0


class Outside:
    """Follows files and addresses that the configuration names."""

    def __init__(self, config: Config, home: Path, desk: Desk) -> None:
        self._issuers = config.workloads.issuers
        self._lists = [one for one in config.workloads.authorities if one.revocation_list]
        self._home = home
        self._desk = desk
        self._asked: dict[str, float] = {}
        self._files_at = 0.0

    def read_files(self) -> None:
        """Read every file at the start; one that cannot be used stops it."""
        for issuer in self._issuers:
            if issuer.keys_file:
                self._keys_from_file(issuer)
        for authority in self._lists:
            self._read_list(authority)

    async def follow(self) -> None:
        """Look again and again, until cancelled."""
        while self._issuers or self._lists:
            now = time.monotonic()
            if now - self._files_at >= _FILES_SECONDS:
                self._files_at = now
                self._look_at_files()
            for issuer in self._issuers:
                if issuer.keys_url and self._is_due(issuer, now):
                    self._asked[issuer.label] = now
                    await self._ask(issuer)
            await asyncio.sleep(_LOOK_SECONDS)

    def _look_at_files(self) -> None:
        for issuer in self._issuers:
            if issuer.keys_file:
                try:
                    self._keys_from_file(issuer)
                except KeyclaveError as fault:
                    logger.warning("issuer %s: %s; the keys known stay", issuer.label, fault.detail)
        for authority in self._lists:
            try:
                self._read_list(authority)
            except KeyclaveError as fault:
                logger.error("authority %s: %s: its certificates are not believed", authority.label, fault.detail)
                self._desk.callers.certified.replace_revoked(authority.label, None)

    def _is_due(self, issuer: TokenIssuer, now: float) -> bool:
        asked = self._asked.get(issuer.label)
        if asked is None:
            return True
        wanted = issuer.label in self._desk.callers.presented.wanted
        return now - asked >= (_SOONEST if wanted else issuer.refresh_seconds)

    async def _ask(self, issuer: TokenIssuer) -> None:
        import httpx  # here, not above: a server that asks no issuer starts without it

        context = ssl.create_default_context(cafile=str(self._home / issuer.keys_ca_file) if issuer.keys_ca_file else None)
        try:
            # trust_env: no proxy, and no file of the environment, may bring keys that are believed
            async with httpx.AsyncClient(verify=context, timeout=_ANSWER_SECONDS, trust_env=False) as client:
                data = await _fetch(client, issuer.keys_url)
            self._desk.callers.presented.replace_keys(issuer.label, read_keys(data))
        except (httpx.HTTPError, KeyclaveError) as fault:
            said = fault.detail if isinstance(fault, KeyclaveError) else type(fault).__name__
            logger.warning("issuer %s: its keys were not read (%s); those known stay", issuer.label, said)

    def _keys_from_file(self, issuer: TokenIssuer) -> None:
        self._desk.callers.presented.replace_keys(issuer.label, read_keys(_read(self._home / issuer.keys_file)))

    def _read_list(self, authority: OutsideAuthority) -> None:
        anchors = certificates_in(_read(self._home / authority.bundle))
        found = read_revocation_list(_read(self._home / authority.revocation_list), anchors, self._desk.clock.now())
        self._desk.callers.certified.replace_revoked(authority.label, found)


async def _fetch(client: httpx.AsyncClient, url: str) -> bytes:
    """Return an answer of bounded size; a redirect is not followed: it would lead where nobody configured."""
    data = bytearray()
    async with client.stream("GET", url, headers={"accept": "application/jwk-set+json, application/json"}) as answer:
        answer.raise_for_status()
        async for piece in answer.aiter_bytes():
            data += piece
            if len(data) > LONGEST_KEYS:
                raise Malformed("the JWK set is too large", "publish the keys in use only")
    return bytes(data)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise Unavailable(f"{path} cannot be read: {fault.strerror}", "see `workloads` in keyclave.toml") from None
