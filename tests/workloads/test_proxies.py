"""A trusted proxy's headers, and everybody else's: who is believed about whose address and certificate."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyclave.core.errors import Malformed
from keyclave.identity.peer import Peer, Plane
from keyclave.identity.proxies import ProxyRule, asked_for, read_networks
from tests.workloads.certificates import DAY, NOW, Authority, Identity
from tests.workloads.conftest import DOMAIN, OWN, House, identity_of, start_house

RECORD = {"plaintext": base64.b64encode(b"record").decode()}
ENCRYPT = "/v1/keys/ward-records/encrypt"
PROXY = f"spiffe://{DOMAIN}/edge/proxy"
RULE = ProxyRule(networks=read_networks(["10.0.0.0/8", "fd00::/8"]), names=frozenset({PROXY}))
FORWARDED = ProxyRule(networks=RULE.networks, names=RULE.names, header="forwarded")


def address(hop: str, *values: str, rule: ProxyRule = RULE) -> str:
    headers = [(rule.header.encode(), value.encode()) for value in values]
    return asked_for(Peer(hop, Plane.DATA), rule, headers, authenticated=True).address


# ---- reading ---------------------------------------------------------------------------------------------------------------
@pytest.mark.requirement("R32")
def test_addresses_are_read_from_the_right() -> None:
    assert address("10.0.0.1") == "10.0.0.1"
    assert address("10.0.0.1", "192.0.2.7") == "192.0.2.7"
    assert address("10.0.0.1", "6.6.6.6, 192.0.2.7") == "192.0.2.7"  # what the client wrote stays what it is: nothing
    assert address("10.0.0.1", "6.6.6.6", "192.0.2.7") == "192.0.2.7"  # doubled headers are one list (RFC 9110 section 5.3)
    assert address("10.0.0.1", "192.0.2.7, 10.0.0.2, 10.0.0.3") == "192.0.2.7"
    assert address("10.0.0.1", "10.9.9.9") == "10.9.9.9"
    assert address("fd00::1", "2001:db8::7") == "2001:db8::7"
    assert address("::ffff:10.0.0.1", "[2001:DB8:0::7]:443") == "2001:db8::7"
    assert address("10.0.0.1", "192.0.2.7:5000") == "192.0.2.7"
    assert address("10.0.0.1", "::ffff:192.0.2.7") == "192.0.2.7"
    assert address("10.0.0.1", "nonsense, 192.0.2.7") == "192.0.2.7"  # left of the client: its own words, never read


@pytest.mark.requirement("R32")
@pytest.mark.parametrize(
    "text",
    ["", "unknown", "_hidden", "192.0.2", "192.0.2.7.1", "0x7f.1", "192.0.2.07", "localhost", "192.0.2.7:0", "192.0.2.7:99999",
     "[192.0.2.7", "2001:db8::7]", "fe80::1%eth0", "192.0.2.7\t;x", "192.0.2.7/32", "\uff1192.0.2.7", "6.6.6.6,", "192.0.2.7:"],
)  # fmt: skip
def test_what_counts_and_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        address("10.0.0.1", text)


@pytest.mark.requirement("R32")
def test_forwarded_is_read_as_its_standard_says() -> None:
    assert address("10.0.0.1", "for=192.0.2.7;proto=https", rule=FORWARDED) == "192.0.2.7"
    assert address("10.0.0.1", 'for="[2001:db8::7]:4711";by=x', rule=FORWARDED) == "2001:db8::7"
    assert address("10.0.0.1", 'for=6.6.6.6, For="192.0.2.7:80"', rule=FORWARDED) == "192.0.2.7"
    assert address("10.0.0.1", 'by="a,for=6.6.6.6";for=192.0.2.7', rule=FORWARDED) == "192.0.2.7"  # a comma inside quotes
    for text in (
        "for=unknown",
        "for=_x",
        "proto=https",
        "for=1.2.3.4;for=6.6.6.6",
        "for",
        'for="1.2.3.4',
        "=1.2.3.4",
    ):
        with pytest.raises(Malformed):
            address("10.0.0.1", text, rule=FORWARDED)


@pytest.mark.requirement("R32")
def test_the_other_header_is_ignored() -> None:
    headers = [(b"forwarded", b"for=6.6.6.6"), (b"x-real-ip", b"6.6.6.6"), (b"x-forwarded-for", b"192.0.2.7")]
    assert asked_for(Peer("10.0.0.1"), RULE, headers, authenticated=True).address == "192.0.2.7"
    assert asked_for(Peer("10.0.0.1"), RULE, headers[:2], authenticated=True).address == "10.0.0.1"


@pytest.mark.requirement("R32")
@given(st.lists(st.text(alphabet='0123456789abcdef.:,;="[] ', max_size=24), max_size=4), st.booleans())
def test_no_header_makes_a_client_one_of_ours_by_itself(values: list[str], standard: bool) -> None:
    """Whatever is written left of an address that is not ours, the answer is that address."""
    rule = FORWARDED if standard else RULE
    seen = "for=192.0.2.7" if standard else "192.0.2.7"
    if any(value.count('"') % 2 for value in values):
        values = [value.replace('"', "") for value in values]
    assert address("10.0.0.1", *values, seen, rule=rule) == "192.0.2.7"


@pytest.mark.requirement("R32")
def test_a_certificate_is_taken_only_from_an_authenticated_hop() -> None:
    header = (b"client-cert", b":" + base64.b64encode(b"der") + b":")
    assert asked_for(Peer("10.0.0.1"), RULE, [header], authenticated=True).certificate == b"der"
    assert asked_for(Peer("10.0.0.1", certificate=b"hop"), RULE, [header], authenticated=False).certificate is None
    for wrong in (b"", b"MII", b":::", b":M:", b": :", b":" + b"A" * 30_000 + b":", b":QUJD:;x=1"):
        with pytest.raises(Malformed):
            asked_for(Peer("10.0.0.1"), RULE, [(b"client-cert", wrong)], authenticated=True)
    with pytest.raises(Malformed):
        asked_for(Peer("10.0.0.1"), RULE, [header, header], authenticated=True)


# ---- over the wire ---------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house whose data listener believes one proxy: on this machine, by its certificate."""
    house = start_house(
        tmp_path_factory.mktemp("behind"), data=f'trusted_proxies = ["127.0.0.1/32"]\nproxy_names = ["{PROXY}"]',
        listen='trusted_proxies = ["127.0.0.1/32"]\nproxy_by_address = true',
    )  # fmt: skip
    house.live.create_key("ward-records", environment="test", classification="ePHI")
    yield house
    house.live.stop()


def forwarded(identity: Identity) -> dict[str, str]:
    return {"client-cert": f":{base64.b64encode(identity.der).decode()}:"}


def sources(house: House, actor: str) -> set[str]:
    start = max(0, int(house.live.get("/v1/status").json()["log"]["size"]) - 200)
    found = house.live.get("/v1/audit/events", "auditor", params={"from": start, "limit": 1000}).json()["events"]
    return {event["source"] for event in found if event["actor"] == actor}


@pytest.mark.requirement("R32")
def test_a_proxy_speaks_for_its_clients_and_others_for_themselves(behind: House) -> None:
    token = behind.live.token(["encrypt"], ["ward-*"])
    actor = behind.live.get("/v1/whoami", token).json()["principal"]
    headers = {"authorization": f"Bearer {token}", "x-forwarded-for": "6.6.6.6, 192.0.2.7"}
    with behind.client(behind.outside.svid(PROXY)) as proxy, behind.client(None) as client:
        assert proxy.post(ENCRYPT, json=RECORD, headers=headers).status_code == 200
        assert proxy.get("/v1/whoami", headers=headers).status_code == 200  # both ways through the server
        assert sources(behind, actor) == {"127.0.0.1", "192.0.2.7"}
        spoofed = {**headers, "x-forwarded-for": "203.0.113.9", "forwarded": "for=203.0.113.9", "client-cert": ":AAAA:"}
        assert client.post(ENCRYPT, json=RECORD, headers=spoofed).status_code == 200
        other = behind.outside.svid(f"spiffe://{DOMAIN}/edge/other")
        with behind.client(other) as stranger:
            assert stranger.post(ENCRYPT, json=RECORD, headers=spoofed).status_code == 200
    assert "203.0.113.9" not in sources(behind, actor)


@pytest.mark.requirement("R32")
def test_a_proxy_is_not_who_it_speaks_for(behind: House) -> None:
    """Registered itself, the proxy's own rights are never lent to a client that brings none."""
    behind.register(PROXY, ["encrypt"], ["ward-*"])
    with behind.client(behind.outside.svid(PROXY)) as proxy:
        assert proxy.post(ENCRYPT, json=RECORD).status_code == 401


@pytest.mark.requirement("R32")
def test_a_forwarded_certificate_is_verified_here_as_if_it_had_come_itself(behind: House) -> None:
    name = f"spiffe://{DOMAIN}/client/one"
    behind.register(name, ["encrypt"], ["ward-*"])
    good = behind.outside.svid(name)
    below = behind.outside.below("Ward authority")
    chained = below.svid(name)
    chain = {"client-cert-chain": f":{base64.b64encode(Identity(below.certificate, below.key).der).decode()}:"}
    refused: dict[str, dict[str, str]] = {
        "another authority": forwarded(Authority.root("Hospital authority").svid(name)),
        "expired": forwarded(behind.outside.svid(name, since=NOW - 3 * DAY, until=NOW - DAY)),
        "an authority": forwarded(Identity(behind.outside.certificate, behind.outside.key)),
        "a signature of nobody": forwarded(behind.outside.svid(name, signed_by=Authority.root("x").key)),
        "no certificate": {"client-cert": ":AAAA:"},
        "an empty header's name": {},
        "a chain that is missing": forwarded(behind.outside.below("Ward authority").svid(name)),
    }
    with behind.client(behind.outside.svid(PROXY)) as proxy:
        assert proxy.post(ENCRYPT, json=RECORD, headers=forwarded(good)).status_code == 200
        assert proxy.get("/v1/whoami", headers=forwarded(good)).json()["principal"] == name
        assert proxy.post(ENCRYPT, json=RECORD, headers={**forwarded(chained), **chain}).status_code == 200
        for what, headers in refused.items():
            assert proxy.post(ENCRYPT, json=RECORD, headers=headers).status_code == 401, what
        answer = proxy.request("POST", ENCRYPT, json=RECORD, headers=[*forwarded(good).items(), *forwarded(good).items()])
        assert answer.status_code == 400
        revoked = behind.live.post(f"/v1/certificates/{identity_of(good)}/revoke", "operator", {"outside": True})
        assert revoked.status_code == 200
        assert proxy.post(ENCRYPT, json=RECORD, headers=forwarded(good)).status_code == 401
    with behind.client(None) as client:
        assert client.post(ENCRYPT, json=RECORD, headers=forwarded(behind.outside.svid(name))).status_code == 401


@pytest.mark.requirement("R32")
def test_a_token_bound_to_a_certificate_works_through_the_proxy_with_that_one(behind: House) -> None:
    identity = behind.workload("through/proxy")
    with behind.client(behind.outside.svid(PROXY)) as proxy:
        made = proxy.post("/v1/tokens", json={}, headers=forwarded(identity))
        assert made.status_code == 201, made.text
        bearer = {"authorization": f"Bearer {made.json()['token']}"}
        assert proxy.post(ENCRYPT, json=RECORD, headers={**bearer, **forwarded(identity)}).status_code == 200
        assert proxy.post(ENCRYPT, json=RECORD, headers=bearer).status_code == 401
    with behind.client(identity) as client:
        assert client.get("/v1/whoami").json()["principal"] == f"spiffe://{OWN}/through/proxy"


@pytest.mark.requirement("R32")
def test_a_proxy_known_by_its_address_alone_is_believed_about_addresses_alone(behind: House) -> None:
    name = f"spiffe://{DOMAIN}/client/two"
    behind.register(name, ["encrypt"], ["ward-*"])
    token = behind.live.token(["encrypt"], ["ward-*"])
    actor = behind.live.get("/v1/whoami", token).json()["principal"]
    headers: dict[str, Any] = {"x-forwarded-for": "192.0.2.9"}
    assert behind.live.get("/v1/whoami", token, headers=headers).status_code == 200
    assert "192.0.2.9" in sources(behind, actor)
    assert behind.live.get("/v1/whoami", headers=forwarded(behind.outside.svid(name))).status_code == 401
    assert behind.live.get("/v1/whoami", token, headers={"x-forwarded-for": "nonsense"}).status_code == 400


@pytest.mark.requirement("R32")
def test_the_proxy_protocol_is_not_spoken(behind: House) -> None:
    import socket

    with socket.create_connection(("127.0.0.1", behind.data_port), timeout=20) as raw:
        raw.sendall(b"PROXY TCP4 203.0.113.9 127.0.0.1 5000 443\r\n")
        try:
            answer = raw.recv(100)
        except ConnectionError:
            answer = b""
    assert not answer.startswith(b"HTTP")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{behind.data_port}/v1/health")
