"""Revocation lists and bundles: served, checked by openssl, and checked by us."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from tests.live import wait_until_up
from tests.workloads.certificates import DAY, NOW, Authority
from tests.workloads.conftest import DOMAIN, OWN, House, identity_of, start_house

RECORD = {"plaintext": base64.b64encode(b"record").decode()}
ENCRYPT = "/v1/keys/ward-records/encrypt"


def fetched(house: House, path: str) -> httpx.Response:
    answer = house.live.get(path)
    assert answer.status_code == 200, answer.text
    return answer


def openssl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.requirement("R33")
def test_openssl_believes_the_list_and_refuses_who_is_on_it(house: House, tmp_path: Path) -> None:
    good, bad = house.workload("crl/good"), house.workload("crl/bad")
    answer = house.live.post(f"/v1/certificates/{identity_of(bad)}/revoke", "operator", {"reason": "lost"})
    assert answer.status_code == 200
    crl, bundle = tmp_path / "crl.der", tmp_path / "bundle.pem"
    got = fetched(house, "/v1/crl")
    assert got.headers["content-type"] == "application/pkix-crl"
    crl.write_bytes(got.content)
    bundle.write_text(fetched(house, "/v1/authority").text)
    shown = openssl("crl", "-in", crl, "-inform", "DER", "-CAfile", bundle, "-noout", "-text")
    assert "verify OK" in shown.stderr
    assert f"{bad.certificate.serial_number:X}" in shown.stdout.replace(":", "")
    assert f"{good.certificate.serial_number:X}" not in shown.stdout.replace(":", "")
    pem = tmp_path / "crl.pem"
    openssl("crl", "-in", crl, "-inform", "DER", "-out", pem)
    for identity, expected in ((good, 0), (bad, 2)):
        leaf = tmp_path / "leaf.pem"
        leaf.write_bytes(identity.pem)
        checked = openssl("verify", "-crl_check", "-x509_strict", "-CAfile", bundle, "-CRLfile", pem, leaf)
        assert checked.returncode == expected, checked.stdout + checked.stderr
    assert "certificate revoked" in checked.stderr
    listed = x509.load_der_x509_crl(got.content)
    assert listed.next_update_utc is not None
    assert listed.next_update_utc > listed.last_update_utc
    again = x509.load_der_x509_crl(fetched(house, "/v1/crl").content)
    numbers = [one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for one in (listed, again)]
    assert numbers[0] <= numbers[1]


@pytest.mark.requirement("R33")
def test_the_next_list_has_a_greater_number_and_holds_who_was_revoked_meanwhile(house: House) -> None:
    before = x509.load_der_x509_crl(fetched(house, "/v1/crl").content)
    gone = house.workload("crl/next")
    house.live.post(f"/v1/certificates/{identity_of(gone)}/revoke", "operator", {})
    after = x509.load_der_x509_crl(fetched(house, "/v1/crl").content)
    number = [one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for one in (before, after)]
    assert number[0] < number[1]
    serial = gone.certificate.serial_number
    assert before.get_revoked_certificate_by_serial_number(serial) is None
    assert after.get_revoked_certificate_by_serial_number(serial) is not None


@pytest.mark.requirement("R32")
def test_the_spiffe_bundle_holds_the_same_authority(house: House) -> None:
    house.workload("bundle/any")
    bundle = fetched(house, "/v1/spiffe-bundle").json()
    pems = x509.load_pem_x509_certificates(fetched(house, "/v1/authority").content)
    assert {(key["use"], key["kty"], len(key["x5c"])) for key in bundle["keys"]} == {("x509-svid", "EC", 1)}
    assert all("kid" not in key for key in bundle["keys"])
    ders = {base64.b64decode(key["x5c"][0]) for key in bundle["keys"]}
    assert ders == {one.public_bytes(Encoding.DER) for one in pems}
    assert json.dumps(bundle).count(OWN) == 0


@pytest.mark.requirement("R32")
def test_nothing_is_said_of_tenants_or_authorities_that_are_not_there(house: House) -> None:
    house.workload("bundle/other")
    for path in ("/v1/authority?tenant=ten_nobody", "/v1/spiffe-bundle?tenant=x", "/v1/crl/ca_nothing"):
        assert house.live.get(path).status_code == 404
    assert house.live.get("/v1/authority?tenant=a&tenant=b").status_code == 400
    assert house.live.get("/v1/authority?nonsense=a").status_code == 400


@pytest.mark.requirement("R33")
def test_the_authority_is_renewed_and_those_before_are_believed_until_they_end(house: House) -> None:
    before = house.workload("renewed/before")
    made = house.live.post("/v1/authority/renew", "operator")
    assert made.status_code == 201, made.text
    after = house.workload("renewed/after")
    assert after.certificate.issuer != before.certificate.issuer
    for identity in (before, after):
        with house.client(identity) as client:
            assert client.post(ENCRYPT, json=RECORD).status_code == 200
    listed = fetched(house, "/v1/authority").content
    assert len(x509.load_pem_x509_certificates(listed)) >= 2
    older = x509.load_der_x509_crl(fetched(house, f"/v1/crl/{_authority_of(house, before)}").content)
    assert older.issuer == before.certificate.issuer


def _authority_of(house: House, identity: object) -> str:
    found = house.live.get("/v1/certificates", "operator", params={"limit": "1000"}).json()["certificates"]
    return next(str(one["authority"]) for one in found if one["id"] == identity_of(identity))  # type: ignore[arg-type]


# ---- lists of outside authorities -----------------------------------------------------------------------------------------
def crl_of(authority: Authority, *serials: int, until: object = NOW + DAY) -> bytes:
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject)
    builder = builder.last_update(NOW - 2 * DAY).next_update(until)  # type: ignore[arg-type]
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - DAY).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.fixture
def own_house(tmp_path: Path) -> Iterator[House]:
    house = start_house(tmp_path)
    house.live.create_key("ward-records", environment="test", classification="ePHI")
    yield house
    house.live.stop()


@pytest.mark.requirement("R33")
def test_an_outside_list_is_followed_and_one_that_is_over_stops_its_authority(own_house: House, tmp_path: Path) -> None:
    house = own_house
    name = f"spiffe://{DOMAIN}/listed"
    house.register(name, ["encrypt"], ["ward-*"])
    gone, kept = house.outside.svid(name), house.outside.svid(name)
    crl = tmp_path / "outside.crl"
    crl.write_bytes(crl_of(house.outside, gone.certificate.serial_number))
    house.live.end()
    path = house.live.home / "keyclave.toml"
    path.write_text(
        path.read_text().replace(f'trust_domain = "{DOMAIN}"', f'trust_domain = "{DOMAIN}"\nrevocation_list = "{crl}"')
    )
    house.live.restart(unseal=False)
    wait_until_up(house.live.url, house.live.ca_file, house.live.process)
    with house.client(gone) as refused, house.client(kept) as client:
        assert refused.post(ENCRYPT, json=RECORD).status_code == 401
        assert client.post(ENCRYPT, json=RECORD).status_code == 200
        crl.write_bytes(crl_of(house.outside, kept.certificate.serial_number))
        assert _becomes(client, 401)
        crl.write_bytes(crl_of(house.outside))
        assert _becomes(client, 200)
        crl.write_bytes(crl_of(house.outside, until=NOW - DAY))  # over: nobody knows who is revoked since
        assert _becomes(client, 401)
        crl.write_bytes(crl_of(Authority.root("Hospital authority")))  # not the authority's own
        assert client.post(ENCRYPT, json=RECORD).status_code == 401


def _becomes(client: httpx.Client, status: int) -> bool:
    import time

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if client.post(ENCRYPT, json=RECORD).status_code == status:
            return True
        time.sleep(0.1)  # between two looks at a condition
    return False


@pytest.mark.requirement("R33")
def test_a_certificate_of_an_outside_authority_is_blocked_by_its_id(house: House) -> None:
    name = f"spiffe://{DOMAIN}/blocked"
    house.register(name, ["encrypt"], ["ward-*"])
    identity = house.outside.svid(name)
    path = f"/v1/certificates/{identity_of(identity)}/revoke"
    with house.client(identity) as client:
        assert client.post(ENCRYPT, json=RECORD).status_code == 200
        assert house.live.post(path, "operator", {}).status_code == 404
        assert house.live.post(path, "operator", {"outside": True, "reason": "stolen"}).status_code == 200
        assert client.post(ENCRYPT, json=RECORD).status_code == 401
        assert house.live.post(path, "operator", {"outside": True}).status_code == 200
    with house.client(house.outside.svid(name)) as client:
        assert client.post(ENCRYPT, json=RECORD).status_code == 200
    assert house.live.post("/v1/certificates/crt_x/revoke", "operator", {"outside": True}).status_code == 404
