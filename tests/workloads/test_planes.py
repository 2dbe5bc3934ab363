"""Two listeners of one server: each serves its own plane, and what is revoked on one is gone on the other."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from keyclave.identity.peer import Plane
from keyclave.operations.table import OPERATIONS
from tests.live import ENVIRONMENT, free_port
from tests.protocols.every import operation
from tests.workloads.conftest import DOMAIN, House, start_house

RECORD = {"plaintext": base64.b64encode(b"record").decode()}
ENCRYPT = "/v1/keys/ward-records/encrypt"


@pytest.mark.requirement("R32")
@pytest.mark.parametrize("op", OPERATIONS, ids=lambda op: f"{op.method} {op.path}")
def test_an_operation_is_served_on_its_own_listener_only(house: House, op: object) -> None:
    """Asked on the wrong one it is refused for that reason, whoever asks: nothing is said of keys or duties."""
    assert isinstance(op, type(OPERATIONS[0]))
    if op.plane is Plane.BOTH:
        return
    wrong = house.data_url if op.plane is Plane.CONTROL else house.live.url
    token = house.live.tokens["custodian"] if op.plane is Plane.CONTROL else house.live.token(["encrypt"], ["ward-*"])
    path = op.path.replace("{key}", "ward-records")
    while "{" in path:
        path = path[: path.index("{")] + "x" + path[path.index("}") + 1 :]
    assert operation(op.method, path) is op
    with house.client(None, url=wrong) as client:
        answer = client.request(op.method, path, json=_least(op.method, path), headers={"authorization": f"Bearer {token}"})
    if answer.status_code == 400:  # the empty body is not this one's form, which is found before anything is asked
        form = op.request or op.query
        assert form is not None and any(field.required for field in msgspec.structs.fields(form))
    else:
        assert (answer.status_code, answer.json()["detail"]) == (403, f"{op.name} is not served on this listener")


def _least(method: str, path: str) -> object:
    return None if method == "GET" else {}


@pytest.mark.requirement("R32")
def test_keys_are_used_on_one_and_managed_on_the_other(house: House) -> None:
    token = house.live.token(["encrypt"], ["ward-*"])
    assert house.live.post(ENCRYPT, token, RECORD).json()["detail"] == "encrypt is not served on this listener"
    with house.client(None) as client:
        headers = {"authorization": f"Bearer {token}"}
        assert client.post(ENCRYPT, json=RECORD, headers=headers).status_code == 200
        manager = {"authorization": f"Bearer {house.live.tokens['custodian']}"}
        made = client.post(
            "/v1/keys", json={"name": "x", "owner": "y", "environment": "t", "classification": "z"}, headers=manager
        )
        assert made.json()["detail"] == "key-create is not served on this listener"
        assert (
            client.get("/v1/audit/events", headers={"authorization": f"Bearer {house.live.tokens['auditor']}"}).status_code == 403
        )


@pytest.mark.requirement("R32")
def test_what_is_revoked_on_one_is_gone_on_the_other(house: House) -> None:
    token = house.live.token(["encrypt"], ["ward-*"])
    with house.client(None) as client:
        headers = {"authorization": f"Bearer {token}"}
        me = client.get("/v1/whoami", headers=headers).json()["credential"]
        assert house.live.post(f"/v1/credentials/{me}/revoke", "operator", {"reason": "over"}).status_code == 200
        assert client.post(ENCRYPT, json=RECORD, headers=headers).status_code == 401


@pytest.mark.requirement("R32")
def test_both_say_how_the_server_is(house: House) -> None:
    for url in (house.live.url, house.data_url):
        with house.client(None, url=url) as client:
            assert client.get("/v1/health").json() == {"status": "ok"}
            assert client.get("/v1/status").json()["sealed"] is False


@pytest.mark.requirement("R32")
def test_what_only_managing_needs_is_not_there_beside_the_use_of_keys(house: House) -> None:
    auditor = {"authorization": f"Bearer {house.live.tokens['auditor']}"}
    token = {"authorization": f"Bearer {house.live.token(['encrypt'], ['ward-*'])}"}
    with house.client(None) as client, house.client(None, url=house.live.url) as control:
        for method, path in [
            ("GET", "/v1/log/checkpoints"), ("GET", "/v1/log/tile/0/000"), ("GET", "/v1/audit/consistency?from=0&to=1"),
            ("POST", "/v1/unseal"), ("POST", "/v1/login/passkey/begin"),
        ]:  # fmt: skip
            assert client.request(method, path, headers=auditor, json={} if method == "POST" else None).status_code == 404, path
            assert (
                control.request(method, path, headers=auditor, json={} if method == "POST" else None).status_code != 404
                or "tile" in path
            )
        used = client.post(ENCRYPT, json=RECORD, headers=token).json()
        receipt = client.get(f"/v1/audit/receipts/{used['event']}", headers=token)
        assert receipt.status_code in (200, 202, 503), receipt.text  # the application proves its own use
        assert client.get("/v1/log/keys").status_code == 200


@pytest.mark.requirement("R32")
def test_a_certificate_names_nobody_where_none_is_asked_for(house: House) -> None:
    """The control listener asks for no certificate: one that is offered is not looked at, and opens nothing."""
    name = f"spiffe://{DOMAIN}/control/plane"
    house.register(name, ["encrypt"], ["ward-*"])
    with house.client(house.outside.svid(name), url=house.live.url) as client:
        assert client.get("/v1/whoami").status_code == 401
        assert client.get("/v1/health").status_code == 200


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[House]:
    house = start_house(tmp_path, data='client_certificates = "required"')
    house.live.create_key("ward-records", environment="test", classification="ePHI")
    yield house
    house.live.stop()


@pytest.mark.requirement("R32")
def test_where_a_certificate_is_required_nobody_speaks_without_one(strict: House) -> None:
    token = strict.live.token(["encrypt"], ["ward-*"])
    with strict.client(None) as client, pytest.raises(httpx.TransportError):
        client.post(ENCRYPT, json=RECORD, headers={"authorization": f"Bearer {token}"})
    name = f"spiffe://{DOMAIN}/strict"
    strict.register(name, ["encrypt"], ["ward-*"])
    with strict.client(strict.outside.svid(name)) as client:
        assert client.post(ENCRYPT, json=RECORD).status_code == 200
    asked = ["openssl", "s_client", "-connect", f"127.0.0.1:{strict.data_port}", "-tls1_2", "-CAfile", strict.live.ca_file]
    refused = subprocess.run(asked, input="", capture_output=True, text=True, check=False)
    assert refused.returncode != 0  # TLS 1.3 or nothing


@pytest.mark.requirement("R32")
def test_curl_speaks_to_it_with_a_certificate(house: House, tmp_path: Path) -> None:
    identity = house.workload("curl")
    chain, key = identity.write(tmp_path, "curl")
    run = subprocess.run(
        ["curl", "-sS", "--cacert", house.live.ca_file, "--cert", chain, "--key", key, f"{house.data_url}/v1/whoami"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "/curl" in run.stdout


@pytest.mark.requirement("R32")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('[data]\ntls = false\nclient_certificates = "required"\n', "client certificates without TLS"),
        ('[data]\ntls = false\nhost = "192.0.2.1"\n', "tls is off"),
        ('[data]\ntrusted_proxies = ["10.0.0.0/8"]\n', "trusted_proxies without proxy_names"),
        ('[data]\ntrusted_proxies = ["0.0.0.0/0"]\nproxy_by_address = true\n', "every address there is"),
        ('[data]\ntrusted_proxies = ["10.0.0.1/8"]\nproxy_by_address = true\n', "no network"),
        ('[data]\nproxy_by_address = true\n', "without trusted_proxies"),
        ('[workloads]\ntrust_domain = "Hospital.Example"\n', "no SPIFFE ID"),
        ('[workloads]\ncertificate_seconds = 86401\n', "certificate_seconds"),
        ('[[workloads.authorities]]\nlabel = "a"\nbundle = "absent.pem"\ntrust_domain = "x.example"\n', "absent.pem"),
        ('[[workloads.authorities]]\nlabel = "a"\nbundle = "tls/ca.pem"\n', "trust_domain goes with"),
        ('[[workloads.authorities]]\nlabel = "keyclave"\nbundle = "tls/ca.pem"\ntrust_domain = "x.example"\n', "one label"),
        ('[[workloads.authorities]]\nlabel = "a"\nbundle = "tls/ca.pem"\ntrust_domain = "keyclave.localhost"\n', "this server's trust domain"),
        (
            '[[workloads.authorities]]\nlabel = "a"\nbundle = "tls/ca.pem"\ntrust_domain = "x.example"\n'
            '[[workloads.authorities]]\nlabel = "b"\nbundle = "tls/ca.pem"\ntrust_domain = "y.example"\n',
            "share a certificate",
        ),
        (
            '[[workloads.issuers]]\nlabel = "a"\nissuer = "i"\naudience = "u"\npath = "/x"\nkeys_file = "k"\n',
            "leaves out who it is",
        ),
        (
            '[[workloads.issuers]]\nlabel = "a"\nissuer = "i"\naudience = "u"\npath = "/{sub}"\nkeys_url = "http://x"\n',
            "keys are in one place",
        ),
        (
            '[[workloads.issuers]]\nlabel = "a"\nissuer = "i"\naudience = "u"\npath = "/{sub}"\nkeys_file = "k"\nalgorithms = ["HS256"]\n',
            "algorithms that are not taken",
        ),
    ],
)  # fmt: skip
def test_a_configuration_that_would_believe_too_much_stops_the_start(home: Path, settings: str, said: str) -> None:
    path = home / "keyclave.toml"
    before = path.read_text()
    try:
        path.write_text(before + "\n" + settings)
        command = [sys.executable, "-m", "keyclave.app", "serve", "--home", str(home), "--port", str(free_port())]
        run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=30, check=False)
    finally:
        path.write_text(before)
    assert (run.returncode, said in run.stderr) == (1, True), run.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A development home that nobody serves."""
    home = tmp_path_factory.mktemp("config") / "home"
    command = [sys.executable, "-m", "keyclave.app", "init", "--home", str(home), "--development", "--out-json", f"{home}.json"]
    subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True)
    return home
