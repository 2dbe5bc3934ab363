"""The SDK on one core: small envelopes under a cached data key, and bulk data in memory next to what the cipher alone reaches.

Time is CPU time of this process, so what else the machine does disturbs little; the best of several passes counts.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.ours import KEY, Keyclave
from keyclave_client import Client, Encryptor

CONTEXT = {"patient": "p-17", "purpose": "treatment"}
MESSAGE = 1024
CHUNK = 1 << 20
PASSES = 5


@dataclass(frozen=True)
class SdkFigures:
    """Messages of 1 KiB in a second; gigabytes in a second, in every form and of every part."""

    messages: float
    raw_messages: float  # the cipher alone on the same 1 KiB
    stream: float
    whole: float  # the bytes form: one chunk, a fresh result
    raw: float  # the cipher alone, 1 MiB at a time into one buffer
    read: float  # copying the plaintext out of its source
    write: float  # copying the ciphertext into its destination


class _Memory(io.RawIOBase):
    """A destination in memory that is already there: pages new to the process would be the kernel's work, not the SDK's."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._view = memoryview(bytearray(size))
        self._at = 0

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        """Copy the bytes."""
        size = len(data)
        self._view[self._at : self._at + size] = data
        self._at += size
        return size

    def rewind(self) -> None:
        """Begin again."""
        self._at = 0


def measure(server: Keyclave, *, mebibytes: int, messages: int) -> SdkFigures:
    """Measure with data keys of a live server; after the first call for one, nothing waits for it."""
    with Client(server.url, server.token, ca_file=server.ca_file) as client:
        encryptor = client.encryptor(KEY)
        encryptor.encrypt(b"", CONTEXT)
        return _figures(encryptor, mebibytes << 20, messages)


def _figures(encryptor: Encryptor, size: int, messages: int) -> SdkFigures:
    message = os.urandom(MESSAGE)
    cipher, nonce, associated = AESGCM(os.urandom(32)), os.urandom(12), os.urandom(150)
    data = os.urandom(CHUNK) * (size // CHUNK)
    source, sink = io.BytesIO(data), _Memory(size + (size // CHUNK + 8) * 32)
    buffer = memoryview(bytearray(CHUNK + 16))

    def small(seal: Callable[[], object]) -> float:
        return messages / _best(lambda: _repeat(seal, messages))

    def stream() -> None:
        source.seek(0)
        sink.rewind()
        encryptor.encrypt_stream(source, sink, CONTEXT)

    def cipher_alone() -> None:
        view = memoryview(data)
        for at in range(0, size, CHUNK):
            cipher.encrypt_into(nonce, view[at : at + CHUNK], associated, buffer)

    def read() -> None:
        source.seek(0)
        while source.readinto(buffer[:CHUNK]):
            pass

    def write() -> None:
        sink.rewind()
        for _ in range(0, size, CHUNK):
            sink.write(buffer)

    return SdkFigures(
        messages=small(lambda: encryptor.encrypt(message, CONTEXT)),
        raw_messages=small(lambda: cipher.encrypt(nonce, message, associated)),
        stream=size / _best(stream) / 1e9,
        whole=size / _best(lambda: _repeat(lambda: encryptor.encrypt(data, CONTEXT), 1)) / 1e9,
        raw=size / _best(cipher_alone) / 1e9,
        read=size / _best(read) / 1e9,
        write=size / _best(write) / 1e9,
    )


def _repeat(call: Callable[[], object], times: int) -> None:
    for _ in range(times):
        call()


def _best(work: Callable[[], None]) -> float:
    """Return the CPU seconds of the fastest pass."""
    seconds = []
    for _ in range(PASSES):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)
