"""A failed self-test ends the service: nothing is computed any more, health says so, the process ends."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from keyclave.app import wiring
from keyclave.app.by_the_clock import ByTheClock
from keyclave.app.ceremony import Wishes, conclude, hold
from keyclave.app.config import load
from keyclave.core.errors import Broken
from keyclave.crypto.pyca import PycaModule
from keyclave.protocols.rest.refusals import Refusals

WISHES = Wishes(1, 1, True, "127.0.0.1", 8443, "keyclave.localhost/log", (), "tokens")


@pytest.mark.requirement("R3", "R12")
def test_the_server_stops_when_the_module_fails_its_self_test(tmp_path: Path) -> None:
    home = tmp_path / "home"
    made, _ = hold(home, WISHES)
    conclude(home, WISHES, made)
    config = load(home)
    with ThreadPoolExecutor(1) as workers:
        desk, store = wiring.build(config, home, workers=workers)
        assert not desk.vault.sealed
        desk.module = PycaModule(answers_for_tests_only={"sha-256": "00" * 32})
        with pytest.raises(Broken, match="self-test"):
            desk.module.self_test()
        with pytest.raises(Broken):
            desk.module.random(8)
        server: Any = SimpleNamespace(should_exit=False, force_exit=False, sweep=lambda _now: None)

        async def until_stopped() -> None:
            clockwork = asyncio.create_task(ByTheClock(config, desk, store, Refusals(desk), [server], None).run())
            while not server.should_exit:
                await asyncio.sleep(0)
            clockwork.cancel()

        asyncio.run(asyncio.wait_for(until_stopped(), 30))
        assert desk.vault.sealed
        store.close()
