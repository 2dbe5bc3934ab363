"""Tenants have authorities, workloads and certificates of their own, and know nothing of one another's."""

from __future__ import annotations

import base64

import pytest
from cryptography import x509

from tests.workloads.certificates import Identity, signing_request
from tests.workloads.conftest import OWN, House, identity_of

RECORD = {"plaintext": base64.b64encode(b"record").decode()}
ENCRYPT = "/v1/keys/ward-records/encrypt"


@pytest.fixture(scope="module")
def clinic(house: House) -> dict[str, str]:
    """Another tenant: its id and the tokens of its first people."""
    made = house.live.post("/v1/tenants", "custodian", {"name": "clinic"})
    assert made.status_code == 201, made.text
    return {"tenant": made.json()["tenant"], **{one["role"]: one["token"] for one in made.json()["credentials"]}}


def enrolled(house: House, clinic: dict[str, str], path: str) -> Identity:
    name = f"spiffe://{clinic['tenant'].replace('_', '-')}.{OWN}/{path}"
    scope = {"operations": ["encrypt"], "keys": ["*"]}
    assert house.live.post("/v1/workloads", clinic["operator"], {"name": name, "scope": scope}).status_code == 201
    token = house.live.post("/v1/enrolments", clinic["operator"], {"name": name}).json()["token"]
    csr, key = signing_request()
    made = house.live.post("/v1/certificates", token, {"csr": csr})
    assert made.status_code == 201, made.text
    return Identity(x509.load_pem_x509_certificate(made.json()["certificate"].encode()), key)


@pytest.mark.requirement("R32")
def test_a_workload_is_of_its_own_tenant_alone(house: House, clinic: dict[str, str]) -> None:
    described = {"owner": "clinic", "environment": "test", "classification": "ePHI"}
    assert house.live.post("/v1/keys", clinic["custodian"], {"name": "clinic-records", **described}).status_code == 201
    theirs, ours = enrolled(house, clinic, "gateway"), house.workload("tenants/gateway")
    with house.client(theirs) as client:
        assert client.get("/v1/whoami").json()["tenant"] == clinic["tenant"]
        assert client.post("/v1/keys/clinic-records/encrypt", json=RECORD).status_code == 200
        assert client.post(ENCRYPT, json=RECORD).status_code == 404
    with house.client(ours) as client:
        assert client.post("/v1/keys/clinic-records/encrypt", json=RECORD).status_code == 404
    assert theirs.certificate.issuer != ours.certificate.issuer


@pytest.mark.requirement("R32")
def test_one_tenant_reaches_nothing_of_another(house: House, clinic: dict[str, str]) -> None:
    ours = house.workload("tenants/private")
    identity = identity_of(ours)
    workload = next(
        one["id"]
        for one in house.live.get("/v1/workloads", "operator", params={"limit": "1000"}).json()["workloads"]
        if one["name"].endswith("/tenants/private")
    )
    enrolment = house.live.get("/v1/enrolments", "operator").json()["enrolments"][0]["id"]
    operator = clinic["operator"]
    assert house.live.post(f"/v1/certificates/{identity}/revoke", operator, {}).status_code == 404
    assert house.live.request("PATCH", f"/v1/workloads/{workload}", operator, json={"enabled": False}).status_code == 404
    assert house.live.post(f"/v1/enrolments/{enrolment}/revoke", operator, {}).status_code == 404
    for path in ("/v1/workloads", "/v1/enrolments", "/v1/certificates"):
        assert OWN + "/tenants" not in house.live.get(path, operator, params={"limit": "1000"}).text
    with house.client(ours) as client:
        bound = {"authorization": f"Bearer {client.post('/v1/tokens', json={}).json()['token']}"}
        blocked = house.live.post(f"/v1/certificates/{identity}/revoke", operator, {"outside": True})
        assert blocked.status_code == 200  # blocked in their own tenant, where it never opened anything
        assert client.post(ENCRYPT, json=RECORD).status_code == 200
        assert client.post(ENCRYPT, json=RECORD, headers=bound).status_code == 200  # nor is what we bound to it theirs to end


@pytest.mark.requirement("R32")
def test_no_tenant_enrols_names_of_another(house: House, clinic: dict[str, str]) -> None:
    name = f"spiffe://{OWN}/tenants/taken"
    scope = {"operations": ["encrypt"], "keys": ["*"]}
    assert house.live.post("/v1/workloads", clinic["operator"], {"name": name, "scope": scope}).status_code == 201
    assert house.live.post("/v1/enrolments", clinic["operator"], {"name": name}).status_code == 400
    house.register(name, ["encrypt"], ["ward-*"])
    with house.client(house.issue(house.enrolment(name)["token"])) as client:
        assert client.get("/v1/whoami").json()["tenant"] != clinic["tenant"]
