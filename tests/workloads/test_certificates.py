"""Client certificates on the data listener: who they name, what opens, and what is refused before and after the handshake."""

from __future__ import annotations

import base64

import httpx
import pytest

from tests.workloads.certificates import Authority
from tests.workloads.conftest import DOMAIN, House

RECORD = {"plaintext": base64.b64encode(b"record").decode()}


@pytest.mark.requirement("R32")
def test_a_workload_encrypts_by_its_certificate_alone(house: House) -> None:
    name = f"spiffe://{DOMAIN}/ehr/gateway"
    house.register(name, ["encrypt"], ["ward-*"])
    with house.client(house.outside.svid(name)) as client:
        answer = client.post("/v1/keys/ward-records/encrypt", json=RECORD)
        assert answer.status_code == 200, answer.text
        me = client.get("/v1/whoami").json()
    assert (me["principal"], me["role"], me["credential"][:4]) == (name, "application", "crt_")


@pytest.mark.requirement("R32")
def test_a_certificate_of_another_authority_is_refused_in_the_handshake(house: House) -> None:
    name = f"spiffe://{DOMAIN}/ehr/other"
    house.register(name, ["encrypt"], ["ward-*"])
    stranger = Authority.root("Hospital authority")  # the same name, another key
    with house.client(stranger.svid(name)) as client, pytest.raises(httpx.TransportError):
        client.post("/v1/keys/ward-records/encrypt", json=RECORD)
