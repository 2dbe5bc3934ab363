"""The envelope against its vectors, which were written from the specification by code that shares nothing with the server's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyclave.core.errors import KeyclaveError, Malformed, Undecipherable
from keyclave.crypto.arena import slot_from
from keyclave.crypto.pyca import PycaModule
from keyclave.envelope.context import encode_context
from keyclave.envelope.header import OVERHEAD, SIZE, authenticated, key_info, parse, prefix

FILES = sorted((Path(__file__).parent.parent.parent / "vectors" / "envelope").glob("*.txt"))
MODULE = PycaModule()


def fields(path: Path) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in path.read_text().splitlines() if ": " in line)


def open_envelope(blob: bytes, key: bytes, context: dict[str, str]) -> bytes:
    encoded = encode_context(context)
    header, sealed = parse(blob)
    with slot_from(bytearray(key)) as slot:
        info = key_info(header.kind, header.key_id, header.version, header.message_id)
        return MODULE.open_message(slot, info, header.commitment, header.iv, sealed, authenticated(header.raw, encoded))


@pytest.mark.requirement("R1", "R11")
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_vector(path: Path) -> None:
    vector = fields(path)
    blob, key = bytes.fromhex(vector["envelope"]), bytes.fromhex(vector["key"])
    context = json.loads(vector["context"])
    if vector["expect"] == "success":
        plaintext = open_envelope(blob, key, context)
        assert plaintext == bytes.fromhex(vector["plaintext"])
        header, _ = parse(blob)
        with slot_from(bytearray(key)) as slot:
            sealer = MODULE.message_sealer(slot, key_info(header.kind, header.key_id, header.version, header.message_id))
        head = prefix(header.kind, header.key_id, header.version, header.message_id) + sealer.commitment + header.iv
        again = head + sealer.seal(header.iv, plaintext, authenticated(head, encode_context(context)))
        assert again == blob
    else:
        expected = {"undecipherable": Undecipherable, "malformed": Malformed}[vector["expect"]]
        with pytest.raises(expected):
            open_envelope(blob, key, context)


def test_there_are_vectors_of_every_kind() -> None:
    assert {fields(p)["expect"] for p in FILES} == {"success", "undecipherable", "malformed"}
    assert len(FILES) > 20


GOOD = bytes.fromhex(fields(next(p for p in FILES if p.stem == "message"))["envelope"])
KEY = bytes.fromhex(fields(FILES[0])["key"])
CONTEXT = {"patient": "synthetic-17", "purpose": "treatment"}


@pytest.mark.requirement("R1")
def test_one_flipped_bit_anywhere_is_our_error() -> None:
    for position in range(len(GOOD)):
        for bit in range(8):
            bad = bytearray(GOOD)
            bad[position] ^= 1 << bit
            with pytest.raises(Undecipherable):
                open_envelope(bytes(bad), KEY, CONTEXT)


@given(st.binary(max_size=200))
def test_any_bytes_are_our_error(blob: bytes) -> None:
    with pytest.raises(KeyclaveError):
        open_envelope(blob, KEY, CONTEXT)


@given(st.binary(max_size=OVERHEAD + 40))
def test_bytes_behind_a_good_marker_are_our_error(tail: bytes) -> None:
    with pytest.raises(Undecipherable):
        open_envelope(GOOD[:5] + tail, KEY, CONTEXT)


def test_sizes_are_those_of_the_specification() -> None:
    assert (SIZE, OVERHEAD) == (85, 101)
