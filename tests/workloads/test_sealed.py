"""A sealed server, and one that starts again: who is known, what can be stopped, what has to wait."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workloads.certificates import signing_request
from tests.workloads.conftest import House, identity_of, start_house

RECORD = {"plaintext": base64.b64encode(b"record").decode()}
ENCRYPT = "/v1/keys/ward-records/encrypt"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = start_house(tmp_path)
    made.live.create_key("ward-records", environment="test", classification="ePHI")
    yield made
    made.live.stop()


@pytest.mark.requirement("R32", "R33")
def test_sealed_nothing_is_issued_and_everything_can_be_stopped(house: House) -> None:
    identity, other = house.workload("sealed/a"), house.workload("sealed/b")
    before = house.live.get("/v1/crl")
    assert house.live.post("/v1/seal", "operator").status_code == 200
    with house.client(identity) as client, house.client(other) as second:
        assert client.get("/v1/whoami").status_code == 200  # known, and yet
        assert client.post(ENCRYPT, json=RECORD).json()["code"] == "sealed"
        assert client.post("/v1/certificates", json={"csr": signing_request()[0]}).json()["code"] == "sealed"
        assert house.live.post(f"/v1/certificates/{identity_of(identity)}/revoke", "operator", {}).status_code == 200
        assert client.get("/v1/whoami").status_code == 401
        assert second.get("/v1/whoami").status_code == 200
        waiting = house.live.get("/v1/crl")
        assert (waiting.status_code, waiting.json()["code"]) == (503, "sealed")  # an old list would say that nobody is on it
        assert house.live.get("/v1/authority").status_code == 200
        house.live.unseal()
        assert house.live.get("/v1/crl").content != before.content
        assert second.post(ENCRYPT, json=RECORD).status_code == 200


@pytest.mark.requirement("R32", "R33")
def test_after_a_start_revoked_is_revoked_and_live_is_live(house: House) -> None:
    gone, live = house.workload("start/gone"), house.workload("start/live")
    assert house.live.post(f"/v1/certificates/{identity_of(gone)}/revoke", "operator", {}).status_code == 200
    house.live.kill()
    house.live.restart(unseal=False)
    with house.client(gone) as refused, house.client(live) as client:
        assert refused.get("/v1/whoami").status_code == 401
        assert client.post(ENCRYPT, json=RECORD).status_code == 200
        assert house.issue(None, house.client(live)).certificate.serial_number != live.certificate.serial_number


@pytest.mark.requirement("R10", "R32")
def test_no_key_of_an_authority_lies_readable_in_the_home(house: House) -> None:
    """Whoever has the database has no authority: its key is sealed, and a token is there as its digest alone."""
    house.workload("stored")
    token = house.enrolment("spiffe://keyclave.localhost/stored")["token"]
    content = house.live.stored()
    assert b"spiffe://keyclave.localhost/stored" in content  # the search can find things
    assert token.encode() not in content
    assert bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420") not in content  # PKCS #8 of P-256
