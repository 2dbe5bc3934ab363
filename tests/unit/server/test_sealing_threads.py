"""Parts of one message that several threads seal at once: no IV comes twice, and every part opens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from keyclave.crypto.pyca import PycaModule
from keyclave.envelope.header import IV, KIND_MESSAGE, authenticated, key_info, parse
from keyclave.operations.messages import Message


@pytest.fixture
def hasty() -> Iterator[None]:
    """Have threads give the interpreter up as often as it lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.requirement("R4", "R12")
@pytest.mark.usefixtures("hasty")
def test_no_two_parts_of_a_message_share_an_iv_however_many_threads_seal() -> None:
    module = PycaModule()
    with module.random_slot(32) as slot:
        handle: Any = SimpleNamespace(slot=slot, raw_id=bytes(16), number=1)
        message = Message(module, handle, KIND_MESSAGE)

        def seal(_: int) -> list[bytes]:
            alone = [message.seal(b"x", b"") for _ in range(50)]
            return alone + message.seal_all([b"x"] * 200, [b""] * 200)

        with ThreadPoolExecutor(8) as threads:
            parts = [part for made in threads.map(seal, range(40)) for part in made]
        headers = [parse(part) for part in parts]
        numbers = {int.from_bytes(header.iv, "big") for header, _ in headers}
        assert numbers == set(range(1, 40 * 250 + 1))
        assert all(len(header.iv) == IV for header, _ in headers)
        info = key_info(KIND_MESSAGE, bytes(16), 1, headers[0][0].message_id)
        for header, sealed in headers[::97]:
            aad = authenticated(header.raw, b"")
            assert module.open_message(slot, info, header.commitment, header.iv, sealed, aad) == b"x"
