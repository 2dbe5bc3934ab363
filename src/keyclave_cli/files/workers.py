"""What is done to one file: encrypting, decrypting, and moving it to another context."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

from keyclave_cli.files.data_keys import AheadOfTime
from keyclave_cli.files.finished import Context, holds, remove_source, sealed_already
from keyclave_cli.files.folders import Folders
from keyclave_cli.files.plan import Item
from keyclave_cli.files.running import Fate, Progress
from keyclave_cli.problems import Stop
from keyclave_client import Client, Encryptor, inspect_file
from keyclave_client.errors import Undecipherable
from keyclave_client.local.landing import landing, open_source


class Encryption:
    """Encrypts files under one key, bound to one context. `files`: how many there are, as far as is known."""

    def __init__(self, client: Client, key: str, context: Context, files: int, *, force: bool, remove: bool) -> None:
        self._client = client
        self._key = key
        self._context = context
        self._force = force
        self._remove = remove
        self.folders = Folders()
        self._encryptor = Encryptor(AheadOfTime(client, key, files))

    def __call__(self, item: Item, progress: Progress) -> tuple[Fate, str | None]:
        """Encrypt one file, unless that was done before."""
        fate = Fate.DONE
        if not self._force and os.path.lexists(item.dest):
            if not self._remove and not sealed_already(self._encryptor, item.source, item.dest, self._context):
                raise Stop(
                    f"{item.dest} is there and is not {item.source} as it is now, under this key and context",
                    "look at both; --force replaces it",
                )
            fate = Fate.ALREADY
        else:
            self.folders.make(os.path.dirname(item.dest))
            self._encryptor.encrypt_file(item.source, item.dest, self._context, overwrite=self._force, progress=progress)
        if self._remove:  # which compares, whoever made the object
            remove_source(self._encryptor, item.source, item.dest, self._context)
        return fate, "source removed" if self._remove else None


class Decryption:
    """Decrypts files, each by the key it names or, if `key` is given, by that one only."""

    def __init__(self, client: Client, key: str | None, context: Context, *, force: bool) -> None:
        self._client = client
        self._key = key
        self._context = context
        self._force = force
        self.folders = Folders()
        self._lock = threading.Lock()
        self._encryptors: dict[str, Encryptor] = {}

    def __call__(self, item: Item, progress: Progress) -> tuple[Fate, str | None]:
        """Decrypt one file, unless that was done before."""
        encryptor = self.encryptor(item.source)
        if not self._force and os.path.lexists(item.dest):
            if not holds(encryptor, item.source, item.dest, self._context):
                raise Stop(f"{item.dest} is there and is not what {item.source} holds", "look at both; --force replaces it")
            return Fate.ALREADY, None
        self.folders.make(os.path.dirname(item.dest))
        encryptor.decrypt_file(item.source, item.dest, self._context, overwrite=self._force, progress=progress)
        return Fate.DONE, None

    def encryptor(self, path: str) -> Encryptor:
        """Return the encryptor for the key of the object at `path`."""
        key = self._key or inspect_file(path).key
        if key is None:
            raise Stop(f"{path} names no key of Keyclave's", "give --key, if you know which one wraps it")
        return self.encryptor_of(key)

    def encryptor_of(self, key: str) -> Encryptor:
        """Return the encryptor of one key; the same one for every file."""
        with self._lock:
            found = self._encryptors.get(key)
            if found is None:
                found = self._encryptors[key] = self._client.encryptor(key)
            return found


class Rebinding:
    """Decrypts and encrypts again, piece by piece, since a context is bound into the data; no plaintext touches the disk."""

    def __init__(self, client: Client, to_key: str | None, context: Context, to_context: Context) -> None:
        self._keys = Decryption(client, None, context, force=True)
        self._to_key = to_key
        self._context = context
        self._to_context = to_context

    def __call__(self, item: Item, progress: Progress) -> tuple[Fate, str | None]:
        """Replace one object by the same data under the other context, unless that was done before."""
        old = self._keys.encryptor(item.source)
        new = old if self._to_key is None else self._keys.encryptor_of(self._to_key)
        try:
            self._replace(item, old, new, progress)
        except Undecipherable:
            if self._done_before(old, item.source):
                return Fate.ALREADY, None
            raise
        seen = inspect_file(item.dest)
        return Fate.DONE, f"{seen.key} version {seen.version}"

    def _replace(self, item: Item, old: Encryptor, new: Encryptor, progress: Progress) -> None:
        with open_source(item.source, follow_symlinks=False) as file:
            mode = os.fstat(file.fileno()).st_mode
            with landing(item.dest, mode, overwrite=True) as out:
                new.encrypt_stream(_Pieces(old.decrypt_chunks(file, self._context)), out, self._to_context, progress=progress)

    def _done_before(self, encryptor: Encryptor, path: str) -> bool:
        """Tell whether the object opens in the context it is to have: the data key and its first piece say so."""
        with open_source(path, follow_symlinks=False) as file:
            try:
                return next(encryptor.decrypt_chunks(file, self._to_context), None) is not None
            except Undecipherable:
                return False


class _Pieces:
    """Makes a source for reading out of decrypted pieces; what goes wrong with them goes wrong in `read`."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, and nothing only at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        out, self._rest = self._rest[:size], self._rest[size:]
        return out
