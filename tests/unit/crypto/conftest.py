"""One suite for every implementation of `CryptoModule`: a second one is added to `MODULES` and meets the same tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from keyclave.crypto.module import CryptoModule
from keyclave.crypto.pyca import PycaModule

MODULES: dict[str, Callable[[], CryptoModule]] = {"pyca": PycaModule}


@pytest.fixture(scope="session", params=MODULES)
def module(request: pytest.FixtureRequest) -> CryptoModule:
    """Return a module that has tested itself."""
    made = MODULES[request.param]()
    made.self_test()
    return made
