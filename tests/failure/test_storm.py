"""Storms of connections: whoever stands at the door without a word, or half-way in, costs little and keeps nobody out."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvloop

from keyclave.app import door as code
from keyclave.app.door import Door, bind
from keyclave.app.listeners import Listener
from keyclave.core.errors import Unavailable
from keyclave.crypto.certificates import development_certificates
from keyclave.protocols.rest.fastlane import FastLane

pytestmark = pytest.mark.requirement("R32")
LEAST = 4
HELLO_BEGINS = b"\x16\x03\x01\x02\x00\x01"  # of a TLS record that never ends


class Echo(asyncio.Protocol):
    """What lies behind the door in these tests."""

    made = 0

    def __init__(self) -> None:
        Echo.made += 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]


class House:
    """A door with room for four on its step, and those who come to it."""

    def __init__(self, folder: Path, seconds: float) -> None:
        made = development_certificates(("localhost",))
        for name, text in (("cert", made.server), ("key", made.server_key), ("ca", made.ca)):
            (folder / name).write_bytes(text)
        inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        inside.load_cert_chain(folder / "cert", folder / "key")
        self.outside = ssl.create_default_context(cafile=str(folder / "ca"))
        (self.listening,) = bind("127.0.0.1", 0)
        self.port = self.listening.getsockname()[1]
        Echo.made = 0
        self.door = Door(self.listening, Echo, inside, 1, seconds=seconds)

    async def comes(self, says: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, perhaps say something, and be no more trouble than that."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(says)
        return reader, writer

    async def is_served(self) -> bool:
        """Tell whether somebody who means it gets in and is answered."""
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.outside, server_hostname="localhost")
            writer.write(b"ping")
            answered = await reader.readexactly(4) == b"ping"
            writer.close()
        return answered


@pytest.fixture
def at_the_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setattr(code, "_LEAST", LEAST)

    def run(test: Callable[[House], Awaitable[None]], seconds: float = 60) -> None:
        async def inside() -> None:
            house = House(tmp_path, seconds)
            await test(house)
            house.door.close()
            house.door.close()  # a second time does nothing
            await house.door.wait_closed()
            assert not house.door._silent
            assert not house.door._shaking

        uvloop.run(inside())

    return run


async def is_sent_away(reader: asyncio.StreamReader) -> bool:
    """Tell whether the other end hangs up."""
    async with asyncio.timeout(5):
        try:
            return await reader.read(100) == b""
        except ConnectionError:
            return True


@pytest.mark.parametrize("says", [b"", HELLO_BEGINS], ids=["silent", "half-way in"])
def test_when_one_more_comes_the_oldest_on_the_step_goes_and_whoever_means_it_is_served(
    at_the_door: Callable[..., None], says: bytes
) -> None:
    async def test(house: House) -> None:
        standing = [await house.comes(says) for _ in range(3 * LEAST)]
        for reader, _ in standing[: 2 * LEAST]:
            assert await is_sent_away(reader)
        assert await house.is_served()
        assert len(house.door._silent) + len(house.door._shaking) <= LEAST
        assert not standing[-1][0].at_eof()
        if not says:
            assert Echo.made == 1  # nothing was made for those who said nothing
        for _, writer in standing:
            writer.close()

    at_the_door(test)


@pytest.mark.parametrize("says", [b"", HELLO_BEGINS], ids=["silent", "half-way in"])
def test_whoever_takes_too_long_is_sent_away(at_the_door: Callable[..., None], says: bytes) -> None:
    async def test(house: House) -> None:
        reader, writer = await house.comes(says)
        assert await is_sent_away(reader)
        writer.close()
        assert await house.is_served()

    at_the_door(test, seconds=0.1)


@pytest.mark.parametrize("says", [b"GET / HTTP/1.1\r\n\r\n", os.urandom(300)], ids=["plain", "noise"])
def test_whoever_speaks_no_tls_is_sent_away_and_makes_no_noise_in_the_log(
    at_the_door: Callable[..., None], says: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(house: House) -> None:
        for _ in range(5):
            reader, writer = await house.comes(says)
            async with asyncio.timeout(5):
                while await reader.read(100):  # an alert may come first
                    pass
            writer.close()
        assert await house.is_served()

    at_the_door(test)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_without_a_descriptor_left_those_outside_wait_and_come_in_when_there_is_one(
    at_the_door: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(code, "_PAUSE", 0.02)

    async def test(house: House) -> None:
        real, refused = house.listening, 0

        class Short:
            """A socket of a process that has used up its descriptors."""

            def accept(self) -> tuple[socket.socket, object]:
                nonlocal refused
                if refused < 3:
                    refused += 1
                    raise OSError(24, "Too many open files")
                return real.accept()

            def fileno(self) -> int:
                return real.fileno()

            def close(self) -> None:
                real.close()

        house.door._listening = Short()  # type: ignore[assignment]
        assert await house.is_served()
        assert refused == 3

    at_the_door(test)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "no connection can be taken: Too many open files"
    ]


@pytest.mark.parametrize(("there", "closed_after"), [(10, 75), (50, 75), (70, 40), (90, 5), (100, 5), (400, 5)], ids=str)
def test_the_fuller_the_house_the_sooner_whoever_asks_nothing_goes(there: int, closed_after: int) -> None:
    listener = Listener.__new__(Listener)
    listener._connections, closed = 100, []

    def stays(heard: float) -> FastLane:
        one = FastLane.__new__(FastLane)
        one.heard, one.within, one.cycle = heard, False, None
        one.unread = 0
        one.transport = SimpleNamespace(close=lambda: closed.append(heard), get_write_buffer_size=lambda: 0)  # type: ignore[assignment]
        return one

    now = 1000.0
    edge = now - closed_after
    connections = {stays(now) for _ in range(there - 2)} | {stays(edge + 0.5), stays(edge - 0.5)}
    listener.server_state = SimpleNamespace(connections=connections)  # type: ignore[assignment]
    listener.sweep(now)
    assert closed == [edge - 0.5]


def test_a_port_that_somebody_has_is_said() -> None:
    (first,) = bind("127.0.0.1", 0)
    with first:
        first.listen()
        with pytest.raises(Unavailable, match=r"cannot listen on 127\.0\.0\.1") as refused:
            bind("127.0.0.1", first.getsockname()[1])
        assert refused.value.hint
    with pytest.raises(Unavailable, match=r"cannot listen on host\.invalid"):
        bind("host.invalid", 1)
