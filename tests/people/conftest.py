"""A server of the people's own, with somebody of each duty who has a passkey."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.live import Live, launch
from tests.visitor import Visitor

_number = itertools.count(1)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A development server where bearer tokens let people begin."""
    server = launch(tmp_path_factory.mktemp("people"), "--development", unseal=False)
    yield server
    server.stop()


@pytest.fixture
def invited(house: Live) -> Callable[..., str]:
    """Return a function that invites somebody and returns the token, confirmed by a second person unless told otherwise."""

    def invite(name: str, *, confirmed: bool = True, hours: int = 1) -> str:
        made = house.post("/v1/invitations", "operator", {"principal": name, "role": "person", "hours": hours}).json()
        if confirmed:
            assert house.post(f"/v1/invitations/{made['id']}/confirm", "custodian").status_code == 200
        return str(made["token"])

    return invite


@pytest.fixture
def somebody(house: Live, invited: Callable[..., str]) -> Callable[..., Visitor]:
    """Return a function that makes a person with a passkey, by invitation."""

    def make(**passkey: object) -> Visitor:
        from tests.authenticator import Passkey
        from tests.visitor import origin_of

        name = f"somebody-{next(_number)}"
        begun = house.post("/v1/enrolment/begin", body={"invitation": invited(name)}).json()
        visitor = Visitor(house, name, Passkey(origin_of(house), **passkey))  # type: ignore[arg-type]
        answer = visitor.enrol(begun["token"])
        assert answer.status_code == 201, answer.text
        return visitor

    return make
