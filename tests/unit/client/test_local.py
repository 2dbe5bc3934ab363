"""Local envelopes: derivation, shyness, inspection, rewrapping, and what sources and sinks may do."""

from __future__ import annotations

import copy
import hmac
import io
import os
import pickle
import traceback

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import keyclave_client
from keyclave_client import Encryptor, KeyclaveError, inspect
from keyclave_client.canonical import canonical, canonical_map
from keyclave_client.errors import Malformed, TooLarge, Undecipherable
from keyclave_client.local import header as wire
from keyclave_client.local.body import new_body, open_body
from keyclave_client.local.datakey import DataKey
from keyclave_client.local.stream import write_all
from tests.unit.client.standin import KEY, LocalKeys

CONTEXT = {"patient": "p-17", "purpose": "treatment"}


def sealed_stream(encryptor: Encryptor, plaintext: bytes, chunk: int = 12) -> bytes:
    return b"".join(encryptor.encrypt_chunks(io.BytesIO(plaintext), CONTEXT, chunk=chunk))


@pytest.mark.requirement("R11")
def test_body_key_and_commitment_are_what_the_page_says() -> None:
    source = LocalKeys()
    encryptor = Encryptor(source)  # while it lives, it keeps the data key
    blob = encryptor.encrypt(b"plain", CONTEXT)
    header = wire.parse(blob)
    key, encoded, name = bytes(source.given[0]), canonical_map(CONTEXT), bytes([1, 1, 0])
    info = canonical("keyclave/local/1", name, header.message_id, encoded)
    out = hmac.new(key, b"\x00\x00\x00\x01" + info, "sha512").digest()
    aad = canonical("keyclave/local-aad/1", name, header.message_id, encoded, out[32:])

    assert header.commitment == out[32:]
    assert AESGCM(out[:32]).decrypt(bytes(11) + b"\x01", blob[header.size :], aad) == b"plain"


def test_objects_share_no_message_id() -> None:
    encryptor = Encryptor(LocalKeys())

    assert len({wire.parse(encryptor.encrypt(b"same", CONTEXT)).message_id for _ in range(200)}) == 200


def test_a_foreign_data_key_is_refused_by_the_commitment() -> None:
    header = wire.parse(Encryptor(LocalKeys()).encrypt(b"x", CONTEXT))
    foreign = DataKey(bytearray(os.urandom(32)), header.wrapped)

    with pytest.raises(Undecipherable):
        open_body(header, foreign, canonical_map(CONTEXT))


def test_small_messages_share_a_data_key_and_files_do_not() -> None:
    source = LocalKeys()
    encryptor = Encryptor(source)
    for _ in range(5):
        encryptor.encrypt(b"x", CONTEXT)
    assert source.calls == 1
    for _ in range(5):
        sealed_stream(encryptor, b"x")

    assert source.calls == 6


@pytest.mark.requirement("P7")
def test_a_data_key_is_shy() -> None:
    raw = os.urandom(32)
    key = DataKey(bytearray(raw), b"wrapped")

    assert raw.hex() not in repr(key) + str(key) + f"{key!r}" and repr(raw)[2:-1] not in repr(key)
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            attempt(key)


@pytest.mark.requirement("P7")
def test_a_traceback_of_a_refused_object_shows_no_key() -> None:
    source = LocalKeys()
    encryptor = Encryptor(source)
    blob = bytearray(encryptor.encrypt(b"secret plaintext", CONTEXT))
    blob[-1] ^= 1
    with pytest.raises(Undecipherable) as caught:
        encryptor.decrypt(bytes(blob), CONTEXT)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())

    assert "secret plaintext" not in shown
    assert not any(repr(bytes(plain))[2:-1] in shown for plain in source.given)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_data_key_of_another_size_is_refused_and_wiped(size: int) -> None:
    plain = bytearray(b"\xff" * size)
    with pytest.raises(KeyclaveError):
        DataKey(plain, b"wrapped")

    assert not any(plain)


@pytest.mark.requirement("R24", "R25", "P5")
@pytest.mark.parametrize("form", ["bytes", "stream"])
def test_rewrapping_changes_the_wrapped_key_and_nothing_else(form: str) -> None:
    source = LocalKeys()
    encryptor = Encryptor(source)
    old = encryptor.encrypt(b"x" * 9000, CONTEXT) if form == "bytes" else sealed_stream(encryptor, b"x" * 9000)
    source.version = 2
    new = encryptor.rewrap(old, CONTEXT)
    one, two = wire.parse(old), wire.parse(new)

    assert one.wrapped != two.wrapped
    assert (one._replace(wrapped=b""), old[one.size :]) == (two._replace(wrapped=b""), new[two.size :])
    assert encryptor.decrypt(new, CONTEXT) == encryptor.decrypt(old, CONTEXT) == b"x" * 9000
    assert (inspect(old).version, inspect(new).version) == (1, 2)
    head = encryptor.rewrap(old[: one.size], CONTEXT)
    assert encryptor.decrypt(head + old[one.size :], CONTEXT) == b"x" * 9000


def test_rewrapping_needs_the_context() -> None:
    encryptor = Encryptor(LocalKeys())

    with pytest.raises(Undecipherable):
        encryptor.rewrap(encryptor.encrypt(b"x", CONTEXT), {"patient": "p-18"})


@pytest.mark.parametrize("answer", [b"", b"\x00" * 0x10000, b"<html>not a key</html>", b"KC\x01\x01\x01" + bytes(128)])
def test_an_answer_that_is_no_wrapped_key_is_not_put_in(answer: bytes) -> None:
    source = LocalKeys()
    encryptor = Encryptor(source)
    blob = encryptor.encrypt(b"x", CONTEXT)
    source.rewrap = lambda wrapped, context, to_key: answer  # type: ignore[method-assign]

    with pytest.raises(KeyclaveError):
        encryptor.rewrap(blob, CONTEXT)


@pytest.mark.requirement("P5")
def test_inspection_needs_no_key() -> None:
    encryptor = Encryptor(LocalKeys())
    short, long = encryptor.encrypt(b"abc", CONTEXT), sealed_stream(encryptor, b"x" * 10_000)
    head = wire.parse(long).size

    assert keyclave_client.inspect(short) == keyclave_client.Inspection(KEY, 1, "bytes", None, 198, 198 + 3 + 16, 3)
    assert inspect(long) == keyclave_client.Inspection(KEY, 1, "stream", 4096, 198, 198 + 10_000 + 3 * 16, 10_000)
    assert inspect(long[:head]).plaintext_size is None
    for bad in (b"", b"KCL", short[:-20], b"KC\x01" + short[3:], short[:100]):
        with pytest.raises(Malformed):
            inspect(bad)


def test_a_wrapped_key_of_another_maker_names_no_key() -> None:
    header = wire.Header(wire.BYTES, 0, b"vault:v1:abcdef", bytes(24), bytes(32))

    assert inspect(header.encode() + bytes(16)).key is None


@pytest.mark.parametrize("context", [{"a": 1}, {1: "a"}, {"a": None}, {"a": "\ud800"}, ["a"], "text"])
def test_a_context_that_is_not_text_to_text_is_refused(context: object) -> None:
    with pytest.raises(Malformed):
        Encryptor(LocalKeys()).encrypt(b"x", context)  # type: ignore[arg-type]


def test_more_than_the_bytes_form_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "BYTES_LIMIT", 1000)
    encryptor = Encryptor(LocalKeys())
    assert encryptor.encrypt(bytes(1000))
    with pytest.raises(TooLarge):
        encryptor.encrypt(bytes(1001))
    with pytest.raises(TooLarge):
        encryptor.encrypt(memoryview(bytes(1008)).cast("Q"))


def test_a_view_in_other_units_round_trips() -> None:
    encryptor = Encryptor(LocalKeys())
    blob = encryptor.encrypt(memoryview(bytes(range(64))).cast("Q"), CONTEXT)

    assert encryptor.decrypt(memoryview(blob), CONTEXT) == bytes(range(64))


@pytest.mark.parametrize("chunk", [0, 11, 25])
def test_chunk_sizes_outside_the_format_are_refused(chunk: int) -> None:
    with pytest.raises(Malformed):
        Encryptor(LocalKeys()).encrypt_stream(io.BytesIO(), io.BytesIO(), chunk=chunk)


class Trickle(io.RawIOBase):
    """An unbuffered sink that takes three bytes at a time."""

    def __init__(self) -> None:
        self.got = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        self.got += data[:3]
        return min(3, len(data))


class Full(Trickle):
    def write(self, data: memoryview) -> None:  # type: ignore[override]
        return None


def test_sinks_may_take_less_and_sources_may_not_wait() -> None:
    sink = Trickle()
    write_all(sink, bytes(range(100)))
    assert sink.got == bytes(range(100))
    with pytest.raises(Malformed):
        write_all(Full(), b"x")

    class NothingYet(io.RawIOBase):
        def readinto(self, buffer: memoryview) -> None:  # type: ignore[override]
            return None

    with pytest.raises(Malformed):
        Encryptor(LocalKeys()).encrypt_stream(NothingYet(), io.BytesIO())
    with pytest.raises(Malformed):
        Encryptor(LocalKeys()).encrypt_stream(io.StringIO("text"), io.BytesIO())  # type: ignore[arg-type]


def test_progress_adds_up_to_the_plaintext() -> None:
    encryptor, told = Encryptor(LocalKeys()), list[int]()
    sealed = io.BytesIO()
    encryptor.encrypt_stream(io.BytesIO(bytes(10_000)), sealed, chunk=12, progress=told.append)
    assert told == [4096, 4096, 1808]
    told.clear()
    encryptor.decrypt_stream(io.BytesIO(sealed.getvalue()), io.BytesIO(), progress=told.append)

    assert told == [4096, 4096, 1808]


def test_every_public_name_is_there_and_no_other() -> None:
    # the type that holds key bytes is not offered with the rest
    assert set(keyclave_client.__all__) == set(keyclave_client._ROOM_OF)
    for name in keyclave_client.__all__:
        assert getattr(keyclave_client, name) is not None
    with pytest.raises(AttributeError):
        keyclave_client.Clyent  # noqa: B018


def test_nothing_unauthenticated_stays_in_the_buffer() -> None:
    _, body = new_body(LocalKeys().fresh(CONTEXT), wire.STREAM, 12, os.urandom(24), canonical_map(CONTEXT))
    plain, sealed = bytearray(b"x" * 4096), bytearray(4096 + wire.TAG)
    body.seal_into(0, True, memoryview(plain), memoryview(sealed))
    sealed[-1] ^= 1
    with pytest.raises(Undecipherable):
        body.open_into(0, True, memoryview(sealed), memoryview(plain))

    assert not any(plain)
