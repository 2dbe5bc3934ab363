"""Tokens of issuers outside: a Kubernetes cluster and an OpenID provider, played with real keys; every forgery is nobody."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, RSAKey

from tests.workloads.certificates import signing_request
from tests.workloads.conftest import OWN, House, start_house

CLUSTER = "https://kubernetes.example"
PROVIDER = "https://login.hospital.example"
AUDIENCE = "keyclave.hospital.example"
RECORD = {"plaintext": base64.b64encode(b"record").decode()}
ENCRYPT = "/v1/keys/ward-records/encrypt"


class Signer:
    """An issuer with an RSA and an EC key."""

    def __init__(self, name: str) -> None:
        self.rsa = RSAKey.import_key(rsa.generate_private_key(65537, 2048), {"kid": f"{name}-rsa", "use": "sig"})
        self.ec = ECKey.import_key(ec.generate_private_key(ec.SECP256R1()), {"kid": f"{name}-ec", "use": "sig"})

    def keys(self) -> dict[str, Any]:
        return {"keys": [self.rsa.as_dict(private=False), self.ec.as_dict(private=False)]}

    def sign(self, claims: dict[str, Any], key: Any = None, **header: Any) -> str:
        key = key or self.rsa
        alg = "RS256" if key.key_type == "RSA" else "ES256"
        protected = {"alg": alg, "kid": key.kid, **header}
        registry = jws.JWSRegistry(algorithms=["RS256", "ES256", "PS256", "RS512", "HS256", "none"], strict_check_header=False)
        return jws.serialize_compact(protected, json.dumps(claims).encode(), key, registry=registry)


def account(namespace: str = "wards", name: str = "ehr", **more: Any) -> dict[str, Any]:
    now = int(time.time())
    bound = {
        "namespace": namespace, "pod": {"name": "ehr-0", "uid": "11f0"}, "serviceaccount": {"name": name, "uid": "22f0"},
    }  # fmt: skip
    return {
        "iss": CLUSTER, "aud": [AUDIENCE], "sub": f"system:serviceaccount:{namespace}:{name}", "iat": now, "nbf": now,
        "exp": now + 3600, "kubernetes.io": bound, **more,
    }  # fmt: skip


def login(subject: str = "batch-17", **more: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": PROVIDER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 600, **more}


@pytest.fixture(scope="module")
def cluster() -> Signer:
    return Signer("cluster")


@pytest.fixture(scope="module")
def provider() -> Signer:
    return Signer("provider")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, cluster: Signer, provider: Signer) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("issuers")
    for name, signer in (("cluster", cluster), ("provider", provider)):
        (folder / f"{name}.json").write_text(json.dumps(signer.keys()))
    made = start_house(
        folder,
        more=f"""
[[workloads.issuers]]
label = "cluster"
kind = "kubernetes"
issuer = "{CLUSTER}"
audience = "{AUDIENCE}"
path = "/ns/{{namespace}}/sa/{{service_account}}"
keys_file = "{folder}/cluster.json"
[[workloads.issuers]]
label = "provider"
issuer = "{PROVIDER}"
audience = "{AUDIENCE}"
path = "/oidc/{{sub}}"
algorithms = ["ES256", "PS256"]
keys_file = "{folder}/provider.json"
""",
    )
    made.live.create_key("ward-records", environment="test", classification="ePHI")
    made.register(f"spiffe://{OWN}/ns/wards/sa/ehr", ["encrypt"], ["ward-*"])
    made.register(f"spiffe://{OWN}/oidc/*", ["encrypt"], ["ward-*"])
    assert made.live.post("/v1/authority/renew", "operator").status_code == 201
    yield made
    made.live.stop()


def enrol(house: House, token: str | bytes) -> httpx.Response:
    value = b"Bearer " + (token if isinstance(token, bytes) else token.encode())
    with house.client(None) as client:
        return client.post("/v1/certificates", json={"csr": signing_request()[0]}, headers={b"authorization": value})


@pytest.mark.requirement("R32", "R33")
def test_a_pod_gets_the_certificate_of_its_service_account_and_uses_it(house: House, cluster: Signer) -> None:
    identity = house.issue(cluster.sign(account()))
    with house.client(identity) as client:
        assert client.get("/v1/whoami").json()["principal"] == f"spiffe://{OWN}/ns/wards/sa/ehr"
        assert client.post(ENCRYPT, json=RECORD).status_code == 200


@pytest.mark.requirement("R32")
def test_a_login_of_a_provider_enrols_too(house: House, provider: Signer) -> None:
    assert enrol(house, provider.sign(login(), provider.ec)).json()["name"] == f"spiffe://{OWN}/oidc/batch-17"
    assert enrol(house, provider.sign(login(), provider.rsa, alg="PS256")).status_code == 201


@pytest.mark.requirement("R29")
def test_a_token_alone_only_enrols(house: House, cluster: Signer) -> None:
    token = cluster.sign(account())
    with house.client(None) as client:
        headers = {"authorization": f"Bearer {token}"}
        assert client.get("/v1/whoami", headers=headers).json()["principal"] == f"spiffe://{OWN}/ns/wards/sa/ehr"
        assert client.post(ENCRYPT, json=RECORD, headers=headers).status_code == 403
        assert client.post("/v1/random", json={"bytes": 8}, headers=headers).status_code == 403
        assert client.post("/v1/tokens", json={}, headers=headers).status_code == 403


@pytest.mark.requirement("R32")
def test_a_service_account_that_nobody_registered_gets_nothing(house: House, cluster: Signer) -> None:
    assert enrol(house, cluster.sign(account("wards", "unheard-of"))).status_code == 403


def thumbprint(identity: Any) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(identity.der).digest()).decode().rstrip("=")


@pytest.mark.requirement("R33")
def test_a_token_bound_to_a_certificate_is_used_with_it_alone(house: House, cluster: Signer) -> None:
    identity, other = house.issue(cluster.sign(account())), house.issue(cluster.sign(account()))
    token = cluster.sign(account(cnf={"x5t#S256": thumbprint(identity)}))
    headers = {"authorization": f"Bearer {token}"}
    for presented, status in ((identity, 200), (other, 401), (None, 401)):
        with house.client(presented) as client:
            assert client.post(ENCRYPT, json=RECORD, headers=headers).status_code == status
    with house.client(None) as client:  # stolen, it does not even enrol
        assert client.post("/v1/certificates", json={"csr": signing_request()[0]}, headers=headers).status_code == 401


def unsigned(token: str, header: dict[str, Any], signature: bytes = b"") -> str:
    claims = token.split(".")[1]
    return ".".join((b64(json.dumps(header).encode()), claims, b64(signature)))


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def mac(header: dict[str, Any], token: str, key: bytes) -> str:
    content = f"{b64(json.dumps(header).encode())}.{token.split('.')[1]}"
    return f"{content}.{b64(hmac.new(key, content.encode(), 'sha256').digest())}"


def spki(signer: Signer) -> bytes:
    public = signer.rsa.get_op_key("verify")
    return bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def _bringing(signer: Signer, how: str) -> str:
    stranger = Signer("stranger")
    public = stranger.rsa.as_dict(private=False)
    brought = {"jwk": public, "jku": "https://evil.example/keys", "x5c": ["MIIB"], "x5u": "https://evil.example/cert"}
    return stranger.sign(account(), kid=signer.rsa.kid, **{how: brought[how]})


def _twice(signer: Signer) -> str:
    header = f'{{"alg":"none","alg":"RS256","kid":"{signer.rsa.kid}"}}'
    return b64(header.encode()) + "." + signer.sign(account()).split(".", 1)[1]


def _other_claims(signer: Signer) -> str:
    header, _, signature = signer.sign(account("wards", "nobody")).split(".")
    return f"{header}.{b64(json.dumps(account()).encode())}.{signature}"


Forgery = Any
CONFUSIONS: dict[str, Forgery] = {
    "no algorithm": lambda s: unsigned(s.sign(account()), {"alg": "none", "kid": s.rsa.kid}),
    "no algorithm, spelt otherwise": lambda s: unsigned(s.sign(account()), {"alg": "nOnE", "kid": s.rsa.kid}, b"x"),
    "a MAC under the public key": lambda s: mac({"alg": "HS256", "kid": s.rsa.kid}, s.sign(account()), spki(s)),
    "a MAC under the public key's JWK": lambda s: mac(
        {"alg": "HS256", "kid": s.rsa.kid}, s.sign(account()), json.dumps(s.rsa.as_dict(private=False)).encode()
    ),
    "an algorithm that is not on the list": lambda s: s.sign(account(), alg="PS256"),
    "an algorithm of another kind of key": lambda s: unsigned(s.sign(account()), {"alg": "ES256", "kid": s.rsa.kid}, bytes(64)),
    "a signature of zeros": lambda s: unsigned(s.sign(account()), {"alg": "ES256", "kid": s.ec.kid}, bytes(64)),
    "no signature": lambda s: unsigned(s.sign(account()), {"alg": "RS256", "kid": s.rsa.kid}),
    "an algorithm that is a list": lambda s: unsigned(s.sign(account()), {"alg": ["RS256"], "kid": s.rsa.kid}, b"x"),
    "a key of its own": lambda s: Signer("x").sign(account(), kid=s.rsa.kid),
    "a key that it brings": lambda s: _bringing(s, "jwk"),
    "an address of its key": lambda s: _bringing(s, "jku"),
    "a certificate that it brings": lambda s: _bringing(s, "x5c"),
    "an address of its certificate": lambda s: _bringing(s, "x5u"),
    "a key id that is a path": lambda s: Signer("x").sign(account(), kid="../../../../dev/null"),
    "a key id that is a query": lambda s: Signer("x").sign(account(), kid="x' UNION SELECT 'secret"),
    "a key id that is a command": lambda s: Signer("x").sign(account(), kid="|cat /etc/passwd"),
    "an empty key id": lambda s: Signer("x").sign(account(), kid=""),
    "a key id of the other key": lambda s: s.sign(account(), s.rsa, kid=s.ec.kid),
    "a key id that is a number": lambda s: unsigned(s.sign(account()), {"alg": "RS256", "kid": 7}, b"x"),
    "a critical extension": lambda s: s.sign(account(), crit=["kid"]),
    "another type": lambda s: s.sign(account(), typ="wit+jwt"),
    "two algorithms": _twice,
    "claims of its own": _other_claims,
    "four parts": lambda s: s.sign(account()) + ".x",
    "padding": lambda s: s.sign(account()) + "=",
    "a megabyte": lambda s: s.sign(account(extra="x" * 20_000)),
}  # fmt: skip


@pytest.mark.requirement("R32")
@pytest.mark.parametrize("forgery", CONFUSIONS)
def test_a_forged_token_is_nobody(house: House, cluster: Signer, forgery: str) -> None:
    assert enrol(house, cluster.sign(account())).status_code == 201
    answer = enrol(house, CONFUSIONS[forgery](cluster))
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), answer.text


NOW = int(time.time())
CLAIMS: dict[str, dict[str, Any]] = {
    "over": {"exp": NOW - 10},
    "without an end": {"exp": None},
    "an end that is text": {"exp": str(NOW + 600)},
    "an end that is true": {"exp": True},
    "not begun": {"nbf": NOW + 3600},
    "of tomorrow": {"iat": NOW + 7200},
    "of a year": {"exp": NOW + 365 * 86_400},
    "for somebody else": {"aud": ["another.example"]},
    "for somebody whose name begins like ours": {"aud": AUDIENCE + ".evil.example"},
    "for nobody": {"aud": []},
    "for a number": {"aud": [AUDIENCE, 7]},
    "of another issuer": {"iss": CLUSTER + "/"},
    "of an issuer's name in another case": {"iss": CLUSTER.upper()},
    "of no issuer": {"iss": None},
    "not bound to a pod": {"kubernetes.io": {"namespace": "wards", "serviceaccount": {"name": "ehr", "uid": "1"}}},
    "without the cluster's claims": {"kubernetes.io": None},
    "whose subject is another": {"sub": "system:serviceaccount:kube-system:admin"},
    "without a subject": {"sub": None},
    "whose namespace is a path": {
        "sub": "system:serviceaccount:a/b:ehr",
        "kubernetes.io": {"namespace": "a/b", "pod": {"uid": "1"}, "serviceaccount": {"name": "ehr", "uid": "1"}},
    },
    "whose account climbs": {
        "sub": "system:serviceaccount:wards:..",
        "kubernetes.io": {"namespace": "wards", "pod": {"uid": "1"}, "serviceaccount": {"name": "..", "uid": "1"}},
    },
    "bound to something unknown": {"cnf": {"jkt": "x" * 43}},
    "bound to two things": {"cnf": {"x5t#S256": "x" * 43, "jkt": "x" * 43}},
    "bound to nothing": {"cnf": {}},
}


@pytest.mark.requirement("R32")
@pytest.mark.parametrize("fault", CLAIMS)
def test_a_token_with_wrong_claims_is_nobody(house: House, cluster: Signer, fault: str) -> None:
    claims = {name: value for name, value in account(**CLAIMS[fault]).items() if value is not None}
    answer = enrol(house, cluster.sign(claims))
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), answer.text


@pytest.mark.requirement("R32")
def test_one_issuer_cannot_speak_for_another(house: House, cluster: Signer, provider: Signer) -> None:
    assert enrol(house, provider.sign(account(), provider.ec)).status_code == 401
    assert enrol(house, cluster.sign(login())).status_code == 401
    assert enrol(house, provider.sign(login(), provider.rsa)).status_code == 401  # RS256 is not on this one's list


@pytest.mark.requirement("R32")
def test_a_subject_that_could_be_read_as_a_path_is_nobody(house: House, provider: Signer) -> None:
    for subject in ("a/b", "..", "a%2fb", "", "é", "a b", "*", "x" * 300):
        assert enrol(house, provider.sign(login(subject), provider.ec)).status_code == 401, subject


@pytest.mark.requirement("R32")
def test_a_changed_key_set_is_followed(house: House, cluster: Signer) -> None:
    changed = Signer("changed")
    path = house.folder / "cluster.json"
    token = changed.sign(account())
    assert enrol(house, token).status_code == 401
    path.write_text(json.dumps({"keys": [*cluster.keys()["keys"], *changed.keys()["keys"]]}))
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and enrol(house, token).status_code != 201:
        time.sleep(0.2)  # between two looks at a condition
    assert enrol(house, token).status_code == 201
    path.write_text("not a key set")  # a broken file changes nothing
    assert enrol(house, cluster.sign(account())).status_code == 201
    path.write_text(json.dumps(cluster.keys()))
    while time.monotonic() < deadline + 20 and enrol(house, token).status_code != 401:
        time.sleep(0.2)  # between two looks at a condition
    assert enrol(house, token).status_code == 401  # a key that was withdrawn verifies nothing, remembered tokens included


@pytest.mark.requirement("R32")
def test_a_key_set_with_secrets_or_none_is_refused(tmp_path: Path) -> None:
    from keyclave.core.errors import Malformed
    from keyclave.identity.workload_tokens import read_keys

    secret = OctKey.generate_key(256).as_dict(private=True)
    private = ECKey.generate_key("P-256").as_dict(private=True)
    for text in ("", "{}", "[]", '{"keys": []}', '{"keys": 1}', json.dumps({"keys": [secret]}), json.dumps({"keys": [private]})):
        with pytest.raises(Malformed):
            read_keys(text.encode())
