"""Keyclave's SDK: use keys where they are, and encrypt data locally under keys that never travel plain.

    from keyclave_client import Client, Encryptor

    with Client("https://127.0.0.1:8443", token, ca_file="ca.pem") as client:
        records = client.encryptor("patient-records")
        sealed = records.encrypt(b"...", {"patient": "p-17", "purpose": "treatment"})
        assert records.decrypt(sealed, {"patient": "p-17", "purpose": "treatment"}) == b"..."

`Client` is everything the server does; `Encryptor` encrypts bytes, streams and files of any size on this machine, with data
keys that the server wraps (spec/local-envelope.md). Every error
is in `keyclave_client.errors`. It imports nothing of the server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keyclave_client.client import Client
    from keyclave_client.errors import KeyclaveError
    from keyclave_client.local.cache import DEFAULT_CACHE, NO_CACHE, CacheLimits
    from keyclave_client.local.datakey import DataKeySource, ServerKeys
    from keyclave_client.local.encryptor import Encryptor
    from keyclave_client.local.inspection import Inspection, inspect, inspect_file

__all__ = [
    "DEFAULT_CACHE",
    "NO_CACHE",
    "CacheLimits",
    "Client",
    "DataKeySource",
    "Encryptor",
    "Inspection",
    "KeyclaveError",
    "ServerKeys",
    "inspect",
    "inspect_file",
]

# loaded when first asked for: a command line that only prints its help, or only calls the server, pays for no crypto library
_ROOMS = {
    "client": ("Client",),
    "errors": ("KeyclaveError",),
    "local.cache": ("DEFAULT_CACHE", "NO_CACHE", "CacheLimits"),
    "local.datakey": ("DataKeySource", "ServerKeys"),
    "local.encryptor": ("Encryptor",),
    "local.inspection": ("Inspection", "inspect", "inspect_file"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{room}"), name)
