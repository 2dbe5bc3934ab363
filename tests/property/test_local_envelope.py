"""Local envelopes over all plaintexts, contexts and changes: what was sealed opens, and nothing else does."""

from __future__ import annotations

import io
import os
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyclave_client import Encryptor, inspect
from keyclave_client.canonical import canonical_map
from keyclave_client.errors import KeyclaveError, Malformed, Undecipherable
from keyclave_client.local import header as wire
from tests.unit.client.standin import KEY, LocalKeys

CHUNK = wire.LEAST_CHUNK
SIZE = 1 << CHUNK

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
contexts = st.dictionaries(texts, texts, max_size=4)
sizes = st.one_of(
    st.integers(0, 40),
    st.integers(0, 5).flatmap(lambda chunks: st.integers(-2, 2).map(lambda off: max(0, chunks * SIZE + off))),
)


class Dribble:
    """A source that gives a few bytes at a time, as sockets do; with `readinto` or without."""

    def __init__(self, data: bytes, step: int) -> None:
        self.data = io.BytesIO(data)
        self.step = step

    def read(self, size: int, /) -> bytes:
        return self.data.read(min(size, self.step))


class DribbleInto(Dribble):
    def readinto(self, buffer: memoryview) -> int:
        return self.data.readinto(buffer[: self.step])


@pytest.mark.requirement("R4", "R11")
@given(st.binary(max_size=3000), contexts)
def test_bytes_round_trip(plaintext: bytes, context: dict[str, str]) -> None:
    encryptor = Encryptor(LocalKeys())
    blob = encryptor.encrypt(plaintext, context)

    assert encryptor.decrypt(blob, context) == plaintext
    assert encryptor.decrypt(bytearray(blob), context) == plaintext
    assert b"".join(encryptor.decrypt_chunks(io.BytesIO(blob), context)) == plaintext
    said = inspect(blob)
    assert (said.key, said.version, said.kind, said.plaintext_size) == (KEY, 1, "bytes", len(plaintext))


@pytest.mark.requirement("R11")
@given(sizes, contexts, st.sampled_from([1021, 4096, 70_000]), st.sampled_from([Dribble, DribbleInto]))
@settings(deadline=None)
def test_stream_round_trip(size: int, context: dict[str, str], step: int, source: type[Dribble]) -> None:
    encryptor, plaintext = Encryptor(LocalKeys()), os.urandom(size)
    sealed, opened = io.BytesIO(), io.BytesIO()

    assert encryptor.encrypt_stream(source(plaintext, step), sealed, context, chunk=CHUNK) == size
    assert encryptor.decrypt_stream(source(sealed.getvalue(), step), opened, context) == size
    assert opened.getvalue() == plaintext
    assert encryptor.decrypt(sealed.getvalue(), context) == plaintext
    said = inspect(sealed.getvalue())
    assert (said.kind, said.plaintext_size, said.chunk_size) == ("stream", size, SIZE)


@pytest.mark.requirement("R11")
@pytest.mark.parametrize("form", ["bytes", "stream"])
def test_every_flipped_bit_is_one_error(form: str) -> None:
    encryptor, context = Encryptor(LocalKeys()), {"patient": "p-17"}
    plaintext = b"born 1962-05-01"
    blob = encryptor.encrypt(plaintext, context)
    if form == "stream":
        blob = b"".join(encryptor.encrypt_chunks(io.BytesIO(plaintext), context, chunk=CHUNK))
    for bit in range(len(blob) * 8):
        changed = bytearray(blob)
        changed[bit // 8] ^= 1 << (bit % 8)

        with pytest.raises(KeyclaveError) as caught:
            encryptor.decrypt(bytes(changed), context)

        assert type(caught.value) is Undecipherable
        assert str(caught.value) == str(Undecipherable())
        released = io.BytesIO()
        with pytest.raises(Undecipherable):
            encryptor.decrypt_stream(io.BytesIO(changed), released, context)
        assert not released.getvalue()


@given(st.data())
@settings(deadline=None)
def test_a_flipped_bit_of_a_long_stream_releases_only_what_stands_before_it(data: st.DataObject) -> None:
    encryptor, plaintext = Encryptor(LocalKeys()), os.urandom(3 * SIZE + 77)
    sealed = b"".join(encryptor.encrypt_chunks(io.BytesIO(plaintext), chunk=CHUNK))
    body = wire.parse(sealed).size
    bit = data.draw(st.integers(body * 8, len(sealed) * 8 - 1))
    changed = bytearray(sealed)
    changed[bit // 8] ^= 1 << (bit % 8)
    whole = (bit // 8 - body) // (SIZE + wire.TAG)
    released = io.BytesIO()

    with pytest.raises(Undecipherable):
        encryptor.decrypt_stream(io.BytesIO(changed), released)

    assert released.getvalue() == plaintext[: whole * SIZE]


@pytest.mark.requirement("R11")
def test_every_truncation_of_a_stream_is_noticed() -> None:
    encryptor, plaintext = Encryptor(LocalKeys()), os.urandom(3 * SIZE)
    sealed = b"".join(encryptor.encrypt_chunks(io.BytesIO(plaintext), chunk=CHUNK))
    body, step = wire.parse(sealed).size, SIZE + wire.TAG
    near = {body + chunk * step + off for chunk in range(4) for off in (-17, -16, -15, -1, 0, 1, 15, 16, 17)}
    cuts = sorted(cut for cut in near | set(range(0, body + 20)) if cut < len(sealed))
    for cut in cuts:
        released = io.BytesIO()

        with pytest.raises(Undecipherable):
            encryptor.decrypt_stream(io.BytesIO(sealed[:cut]), released)

        assert plaintext.startswith(released.getvalue())
        assert len(released.getvalue()) % SIZE == 0


@pytest.mark.requirement("R11")
@given(st.lists(st.integers(0, 3), max_size=6))
@settings(deadline=None)
def test_only_the_chunks_in_their_order_are_an_object(order: list[int]) -> None:
    encryptor, plaintext = Encryptor(LocalKeys()), os.urandom(3 * SIZE + 5)
    sealed = b"".join(encryptor.encrypt_chunks(io.BytesIO(plaintext), chunk=CHUNK))
    body, step = wire.parse(sealed).size, SIZE + wire.TAG
    chunks = [sealed[at : at + step] for at in range(body, len(sealed), step)]
    built = sealed[:body] + b"".join(chunks[number] for number in order)
    if order == [0, 1, 2, 3]:
        assert encryptor.decrypt(built) == plaintext
        return

    with pytest.raises(Undecipherable):
        encryptor.decrypt(built)


@given(contexts, contexts)
def test_another_context_does_not_open(made: dict[str, str], tried: dict[str, str]) -> None:
    source = LocalKeys()
    blob = Encryptor(source).encrypt(b"x", made)
    if made == tried:
        assert Encryptor(source).decrypt(blob, tried) == b"x"
        return

    with pytest.raises(Undecipherable):
        Encryptor(source).decrypt(blob, tried)


@given(contexts, contexts)
def test_contexts_have_one_encoding_each(one: dict[str, str], other: dict[str, str]) -> None:
    assert (canonical_map(one) == canonical_map(other)) == (one == other)
    assert canonical_map(dict(reversed(one.items()))) == canonical_map(one)


@given(st.binary(max_size=300), st.binary(max_size=64))
def test_any_bytes_are_ours_or_refused(noise: bytes, tail: bytes) -> None:
    encryptor = Encryptor(LocalKeys())
    for blob in (noise, wire.MAGIC + noise, wire.MAGIC + b"\x01\x02\x0c\x00\x20" + noise + tail):
        with pytest.raises(Undecipherable):
            encryptor.decrypt(blob)
        with suppress(Malformed):
            inspect(blob)
