"""A node that starts sealed asks its peers for the root key, until it is unsealed by them or by custodians.

Only from its start on: a server that was told to seal stays sealed until custodians say otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from keyclave.app.config import NodesSection
from keyclave.core.errors import KeyclaveError, Malformed
from keyclave.operations.desk import Desk
from keyclave.operations.nodes.hand_on import Asking, HandOnAnswer, NonceAnswer

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger("keyclave.nodes")

_ROUND_SECONDS = 2.0
_ANSWER_SECONDS = 5.0
_LONGEST = 16_384


async def ask_peers(nodes: NodesSection, context: ssl.SSLContext | None, desk: Desk) -> None:
    """Ask one after the other, again and again, until this node is unsealed or was told to seal."""
    if context is None:
        return
    import httpx

    closed = desk.closed
    async with httpx.AsyncClient(verify=context, timeout=_ANSWER_SECONDS, trust_env=False) as http:
        while desk.vault.sealed and desk.closed == closed:
            for peer in nodes.peers:
                if desk.vault.sealed and desk.closed == closed and desk.membership is not None and desk.membership.lease.live:
                    await _try(http, peer, desk)
            await asyncio.sleep(_ROUND_SECONDS)


def peers_context(nodes: NodesSection, home: Path) -> ssl.SSLContext | None:
    """Return how this node shows itself to its peers and knows them, if it is to ask any."""
    if not nodes.peers:
        return None
    try:
        context = ssl.create_default_context(cafile=home / nodes.peers_ca)
        context.load_cert_chain(home / nodes.certificate, home / nodes.key)
    except OSError as fault:
        raise Malformed(f"this node's certificate or its peers' authority cannot be used: {fault}", "see [nodes]") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


async def _try(http: httpx.AsyncClient, peer: str, desk: Desk) -> None:
    import httpx

    try:
        nonce = msgspec.json.decode(await _post(http, f"{peer}/v1/node-unseal/nonce", b"{}"), type=NonceAnswer)
        if nonce.node == desk.store.node:
            return  # that is this node itself
        asking = Asking(desk, nonce)
        given = msgspec.json.decode(
            await _post(http, f"{peer}/v1/node-unseal", msgspec.json.encode(asking.request)), type=HandOnAnswer
        )
        opened: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        asking.accept(given, opened.set_result)
        if await opened:
            logger.info("unsealed by node %s at %s", given.node, peer)
    except KeyclaveError as error:
        logger.warning("%s does not unseal this node: %s", peer, error.detail)
    except (httpx.HTTPError, msgspec.DecodeError, OSError) as fault:
        logger.info("%s cannot be asked: %s", peer, type(fault).__name__)


async def _post(http: httpx.AsyncClient, url: str, body: bytes) -> bytes:
    answer = await http.post(url, content=body, headers={"content-type": "application/json"})
    if answer.status_code != 200 or len(answer.content) > _LONGEST:
        raise KeyclaveError(f"it answers {answer.status_code}", "look at its record")
    return answer.content
