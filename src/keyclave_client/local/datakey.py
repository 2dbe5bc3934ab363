"""Data keys, and where they come from.

A `DataKey` wipes its plain bytes when the last reference to it goes. That is deliberate: a cache that wiped a key on eviction
while another thread was deriving from it would seal data under a key of zeros, and lose it. Wiping is best effort: Python,
the JSON answer the key came in and the crypto library may have held copies that nobody can reach (docs/limitations.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn, Protocol

from keyclave_client.errors import KeyclaveError

if TYPE_CHECKING:
    from keyclave_client.client import Client

SIZE = 32


class Derivation(Protocol):
    """A key derivation that is ready but for the key, such as the crypto library's KBKDFHMAC."""

    def derive_into(self, key_material: bytearray, buffer: bytearray, /) -> object:
        """Fill `buffer` from `key_material`."""
        ...


class DataKey:
    """A 256-bit data key, plain and wrapped. It does not print, copy or pickle, and gives its plain bytes to derivations only.

    It takes over the bytearray it is made with, and wipes it at its own end.
    """

    __slots__ = ("_plain", "wrapped")

    def __init__(self, plain: bytearray, wrapped: bytes) -> None:
        if len(plain) != SIZE or not wrapped:
            plain[:] = bytes(len(plain))
            raise KeyclaveError(f"a data key is {SIZE} bytes and comes wrapped", "what the server sent is something else")
        self._plain = plain
        self.wrapped = wrapped

    def __del__(self) -> None:
        plain = getattr(self, "_plain", None)
        if plain is not None:
            plain[:] = bytes(len(plain))

    def derive_into(self, derivation: Derivation, out: bytearray) -> None:
        """Fill `out` by a derivation from this key: the one way in, so that no view of the key outlives the key."""
        derivation.derive_into(self._plain, out)

    def __repr__(self) -> str:
        return "DataKey(…)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a data key is not copied or pickled")


class DataKeySource(Protocol):
    """What makes and opens data keys: a server's key, or a stand-in for it."""

    def fresh(self, context: Mapping[str, str]) -> DataKey:
        """Return a new data key, its wrapped form bound to `context`."""
        ...

    def open(self, wrapped: bytes, context: Mapping[str, str]) -> DataKey:
        """Return the data key in `wrapped`; one that does not open is `Undecipherable`."""
        ...

    def rewrap(self, wrapped: bytes, context: Mapping[str, str], to_key: str | None) -> bytes:
        """Return the same data key wrapped by the current version of the key, or of `to_key`."""
        ...


class ServerKeys:
    """Data keys of one key of a server. Only that key's: an object that names another one does not open.

    (Whoever can swap objects in storage could otherwise hand an application something sealed under a key it did not mean to
    trust.)
    """

    def __init__(self, client: Client, key: str) -> None:
        self._client = client
        self._key = key

    def __repr__(self) -> str:
        return f"ServerKeys({self._client!r}, {self._key!r})"

    def fresh(self, context: Mapping[str, str]) -> DataKey:
        """Ask the server for a data key."""
        got = self._client.data_key(self._key, SIZE, context)
        return DataKey(bytearray(got.plaintext or b""), got.wrapped)

    def open(self, wrapped: bytes, context: Mapping[str, str]) -> DataKey:
        """Have the server open a wrapped data key."""
        return DataKey(bytearray(self._client.unwrap(self._key, wrapped, context).material), wrapped)

    def rewrap(self, wrapped: bytes, context: Mapping[str, str], to_key: str | None) -> bytes:
        """Have the server rewrap a data key; the plain key does not travel."""
        return self._client.re_encrypt(self._key, wrapped, context, to_key=to_key).ciphertext
