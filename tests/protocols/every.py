"""A good request for every operation of the table, in an order in which each succeeds: for tests that must leave none out."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pyotp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from keyclave.operations.operation import Operation
from keyclave.operations.table import OPERATIONS
from keyclave.policy.duties import SCOPED
from tests.authenticator import Passkey
from tests.live import Live
from tests.policies import apply_request
from tests.visitor import Visitor
from tests.workloads.certificates import Identity, signing_request

HIDDEN = """@id("PREFIX-hidden")
forbid (principal, action == Action::"key-update", resource in Tag::"prefix=PREFIX");
"""
ROLES = ("custodian", "operator", "auditor", "application")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass
class Call:
    """A request that will succeed when it is sent now, by somebody of `role`; `token` is that of one such person."""

    op: Operation
    path: str
    role: str
    token: str
    body: dict[str, Any] | None = None
    http: httpx.Client | None = None  # of who calls by a certificate
    sent: dict[str, Any] = field(default_factory=dict)

    def send(self, live: Live, token: str | None = None, **kwargs: Any) -> httpx.Response:
        """Send it, with the token of somebody else if one is given."""
        if self.body is not None:
            kwargs.setdefault("json", self.body)
        if self.http is not None and token is None:
            return self.http.request(self.op.method, self.path, **kwargs)
        return live.request(self.op.method, self.path, self.token if token is None else token, **kwargs)


def operation(method: str, path: str) -> Operation:
    """Return the operation that a concrete path names: the table's own path where it is exact, else the pattern that fits."""
    exact = [op for op in OPERATIONS if (op.method, op.path) == (method, path)]
    fitting = [op for op in OPERATIONS if op.method == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", op.path), path)]
    return (exact or fitting)[0]


class Every:
    """Makes what the requests need on a development server, whose keys it names `<prefix>-…`, and yields the requests."""

    def __init__(self, live: Live, prefix: str) -> None:
        self.live = live
        self.prefix = prefix
        self.others: dict[str, dict[str, Any]] = {}  # who further tokens are; the empty one stands for the certificate
        self.app = live.token(sorted(SCOPED), [f"{prefix}-*"])
        made = live.post(
            "/v1/credentials", "custodian", {"principal": f"{prefix}-second", "role": "custodian", "ttl_seconds": 3600}
        )
        self.second = str(made.json()["token"])
        self.people = {name: self.person(name) for name in ("clinician", "night-shift")}
        scope = {"operations": ["decrypt"], "keys": ["nothing"]}
        issued = {"principal": self.name("grantee"), "role": "application", "ttl_seconds": 3600, "scope": scope}
        self.people["grantee"] = str(live.post("/v1/credentials", "operator", issued).json()["token"])

    def person(self, what: str) -> str:
        """Make a person without a duty and return the token."""
        issued = {"principal": self.name(what), "role": "person", "ttl_seconds": 3600}
        return str(self.live.post("/v1/credentials", "custodian", issued).json()["token"])

    def name(self, what: str) -> str:
        return f"{self.prefix}-{what}"

    def key(self, what: str, **fields: Any) -> str:
        """Make a key and return its name."""
        self.live.create_key(self.name(what), **fields)
        return self.name(what)

    def call(self, method: str, path: str, role: str, body: dict[str, Any] | None = None, token: str = "") -> Call:
        op = operation(method, path.partition("?")[0])
        return Call(op, path, role, token or (self.app if role == "application" else role), body)

    def use(self, key: str, verb: str, body: dict[str, Any]) -> Iterator[Call]:
        """Yield the single request and the batch of two."""
        path = f"/v1/keys/{key}/{verb}"
        yield self.call("POST", path, "application", body)
        yield self.call("POST", f"{path}/batch", "application", {"items": [body, body]})

    def made(self, key: str, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer of a use that another request needs."""
        answer = self.live.post(f"/v1/keys/{key}/{verb}", self.app, body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def __iter__(self) -> Iterator[Call]:
        yield from self._uses()
        yield from self._exchanges()
        yield from self._life()
        yield from self._people()
        yield from self._persons()
        yield from self._workloads()
        yield from self._approvals()
        yield from self._grants()
        yield from self._elevation()
        yield from self._reads()
        yield from self._policy()
        yield self.call("POST", "/v1/self-test", "operator", {})
        yield self.call("POST", "/v1/self-test", "auditor", {"full": False})
        yield self.call("GET", "/v1/nodes", "auditor")
        yield self.call("POST", "/v1/node-drain", "operator", {"draining": False})
        yield self.call("POST", "/v1/seal", "operator", {})

    def _uses(self) -> Iterator[Call]:
        key, context = self.key("aes"), {"patient": "p-1"}
        yield from self.use(key, "encrypt", {"plaintext": b64(b"record"), "context": context})
        sealed = self.made(key, "encrypt", {"plaintext": b64(b"record"), "context": context})["ciphertext"]
        yield from self.use(key, "decrypt", {"ciphertext": sealed, "context": context})
        yield from self.use(key, "re-encrypt", {"ciphertext": sealed, "context": context, "to_key": key, "to_context": {}})
        yield from self.use(key, "data-key", {"bytes": 32, "context": context, "plaintext": True})
        yield from self.use(key, "data-key-pair", {"spec": "ed25519", "context": context, "private": True})
        yield from self.use(key, "wrap", {"material": b64(bytes(32)), "context": context})
        wrapped = self.made(key, "wrap", {"material": b64(bytes(32)), "context": context})["wrapped"]
        yield from self.use(key, "unwrap", {"wrapped": wrapped, "context": context})
        key = self.key("sign", spec="ed25519", purpose="sign")
        named = {"message": b64(b"order"), "algorithm": "ed25519"}
        yield from self.use(key, "sign", {**named, "digested": False})
        signature = self.made(key, "sign", named)["signature"]
        yield from self.use(key, "verify", {**named, "signature": signature, "digested": False, "version": 1})
        key = self.key("mac", spec="hmac-sha-256", purpose="mac")
        named = {"message": b64(b"claim"), "algorithm": "hmac-sha-256"}
        yield from self.use(key, "mac", named)
        yield from self.use(key, "verify-mac", {**named, "mac": self.made(key, "mac", named)["mac"], "version": 1})

    def _exchanges(self) -> Iterator[Call]:
        key = self.key("rsa", spec="rsa-3072", purpose="decrypt")
        public: Any = load_pem_public_key(self.live.get(f"/v1/keys/{key}/public-key", self.app).json()["public_key"].encode())
        sealed = public.encrypt(b"session", padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))
        yield self.call("POST", f"/v1/keys/{key}/open", "application", {"ciphertext": b64(sealed), "version": 1})
        key = self.key("agree", spec="ecdh-p256", purpose="agree")
        peer = ec.generate_private_key(ec.SECP256R1()).public_key()
        pem = peer.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        body = {"peer_public_key": pem, "label": "session", "version": 1}
        yield self.call("POST", f"/v1/keys/{key}/derive-shared-secret", "application", body)
        key = self.key("kem", spec="ml-kem-768", purpose="encapsulate")
        yield self.call("POST", f"/v1/keys/{key}/encapsulate", "application", {})
        sealed = base64.b64decode(self.made(key, "encapsulate", {})["ciphertext"])
        yield self.call("POST", f"/v1/keys/{key}/decapsulate", "application", {"ciphertext": b64(sealed), "version": 1})
        yield self.call("POST", "/v1/random", "application", {"bytes": 16})
        yield self.call("POST", "/v1/random/batch", "application", {"items": [{"bytes": 16}, {"bytes": 8}]})

    def _life(self) -> Iterator[Call]:
        described = {
            "owner": "cardiology", "environment": "test", "classification": "ePHI", "tags": {"app": "ehr"},
            "cryptoperiod": {"protect_days": 30, "process_days": 60}, "rotation": {"every_days": 10, "reason": "policy"},
        }  # fmt: skip
        created = {"spec": "aes-256", "purpose": "encrypt", **described, "activate": False}
        yield self.call("POST", "/v1/keys", "custodian", {"name": self.name("life"), **created})
        yield self.call("POST", "/v1/import/parameters", "custodian", {})
        parameters = self.live.post("/v1/import/parameters", "custodian").json()
        offered = {"token": parameters["token"], **wrapped_for(parameters["wrapping_key"], bytes(range(32)))}
        yield self.call("POST", "/v1/keys/import", "custodian", {"name": self.name("imported"), **created, **offered})
        key = f"/v1/keys/{self.name('life')}"
        yield self.call("PATCH", key, "custodian", {**described, "owner": "radiology", "reason": "moved"})
        for move, role in [
            ("activate", "custodian"), ("suspend", "operator"), ("resume", "operator"), ("rotate", "operator"),
            ("archive", "custodian"), ("recover", "custodian"),
        ]:  # fmt: skip
            body: dict[str, Any] = {"reason": "practice"}
            yield self.call("POST", f"{key}/{move}", role, body if move == "rotate" else {"version": 1, **body})
        scheduled = {"version": 1, "days": 0, "reason": "end of retention"}
        yield self.call("POST", f"{key}/schedule-destruction", "custodian", scheduled)
        yield self.call("POST", f"{key}/cancel-destruction", "custodian", {"version": 1, "reason": "still needed"})
        self.live.post(f"{key}/schedule-destruction", "custodian", scheduled)
        yield self.call("POST", f"{key}/destroy", "custodian", {"version": 1, "reason": "over"}, token=self.second)
        yield self.call("POST", f"{key}/deactivate", "operator", {"version": 2, "reason": "replaced"})
        yield self.call("POST", f"{key}/compromise", "operator", {"version": 2, "reason": "seen in a log"})

    def _people(self) -> Iterator[Call]:
        scope = {"operations": ["encrypt"], "keys": [self.name("aes")], "context": {"patient": ["*"]}}
        issued = {"principal": self.name("app"), "role": "application", "ttl_seconds": 600, "scope": scope}
        yield self.call("POST", "/v1/credentials", "operator", issued)
        made = self.live.post("/v1/credentials", "operator", issued).json()["id"]
        yield self.call("POST", f"/v1/credentials/{made}/revoke", "operator", {"reason": "lost"})
        yield self.call("POST", "/v1/tenants", "custodian", {"name": self.name("tenant")})
        named = {"share": 1, "principal": self.name("clinician"), "reason": "took it over"}
        yield self.call("POST", "/v1/shares/holders", "custodian", named)
        yield self.call("GET", "/v1/shares/holders", "auditor")

    def _persons(self) -> Iterator[Call]:
        visitor = self._enrolled()
        token, enrol = visitor.login(), "/v1/authenticators"
        yield self.call("POST", f"{enrol}/passkey/begin", "custodian", {}, token)
        begun = self.live.post(f"{enrol}/passkey/begin", token).json()
        made = Passkey(visitor.passkey.origin).create(begun["publicKey"])
        finished = {"ceremony": begun["ceremony"], "credential": made, "label": "phone"}
        yield self.call("POST", f"{enrol}/passkey/finish", "custodian", finished, token)
        yield self.call("POST", f"{enrol}/key/begin", "custodian", {}, token)
        yield self.call("POST", f"{enrol}/key", "custodian", visitor.key_request(token), token)
        yield self.call("POST", f"{enrol}/totp/begin", "custodian", {}, token)
        begun = self.live.post(f"{enrol}/totp/begin", token).json()
        code = {"ceremony": begun["ceremony"], "code": pyotp.TOTP(begun["seed"]).now(), "label": "app"}
        yield self.call("POST", f"{enrol}/totp/finish", "custodian", code, token)
        yield self.call("POST", f"{enrol}/password", "custodian", {"password": "four wards near a river"}, token)
        yield self.call("POST", f"{enrol}/recovery", "custodian", {}, token)
        yield self.call("GET", enrol, "custodian", token=token)
        key = self.live.post(f"{enrol}/key", token, visitor.key_request(token)).json()["id"]
        yield self.call("POST", f"{enrol}/{key}/revoke", "custodian", {"reason": "lost"}, token)
        yield from self._sessions(visitor, token)
        yield from self._standing()

    def _sessions(self, visitor: Visitor, token: str) -> Iterator[Call]:
        yield self.call("GET", "/v1/sessions", "custodian", token=token)
        yield self.call("POST", "/v1/step-up/passkey/begin", "custodian", {}, token)
        yield self.call("POST", "/v1/step-up/passkey/finish", "custodian", visitor.step_up_request(token), token)
        other = self.live.get("/v1/whoami", visitor.login()).json()["credential"]
        yield self.call("POST", f"/v1/sessions/{other}/revoke", "operator", {"reason": "unknown machine"})
        yield from self._handed_on(visitor.login())
        yield self.call("POST", "/v1/logout", "custodian", {}, visitor.login())
        yield self.call("POST", f"/v1/people/{self.name('second')}/end-sessions", "operator", {"reason": "holiday"})

    def _handed_on(self, token: str) -> Iterator[Call]:
        waiting = {"port": 8080, "state": "s" * 43, "challenge": "c" * 43}
        yield self.call("POST", "/v1/login/cli/grant", "custodian", waiting, token)
        code = self.live.post("/v1/login/device").json()["user_code"]
        yield self.call("POST", "/v1/login/device/look", "custodian", {"user_code": code}, token)
        yield self.call("POST", "/v1/login/device/grant", "custodian", {"user_code": code, "allow": False}, token)

    def _standing(self) -> Iterator[Call]:
        invited = {"principal": self.name("guest"), "role": "person", "hours": 2}
        yield self.call("POST", "/v1/invitations", "operator", {**invited, "roles": [], "reason": "new here"})
        made = [self.live.post("/v1/invitations", "operator", invited).json()["id"] for _ in range(2)]
        yield self.call("POST", f"/v1/invitations/{made[0]}/confirm", "custodian", {"reason": "known"})
        yield self.call("POST", f"/v1/invitations/{made[1]}/revoke", "operator", {"reason": "twice"})
        yield self.call("GET", "/v1/invitations", "auditor")
        yield self.call("GET", "/v1/people", "auditor")
        person = f"/v1/people/{self.name('second')}"
        yield self.call("GET", person, "auditor")
        yield self.call("POST", f"{person}/roles", "custodian", {"give": [], "take": ["night-shift"], "reason": "over"})
        yield self.call("POST", f"{person}/disable", "operator", {"reason": "left"})
        yield self.call("POST", f"{person}/enable", "custodian", {"reason": "back"})

    def _enrolled(self) -> Visitor:
        """Return the second custodian with a passkey."""
        visitor = Visitor(self.live, self.name("second"))
        visitor.enrol(self.second)
        return visitor

    def _approvals(self) -> Iterator[Call]:
        issued = {"principal": self.name("clerk"), "role": "auditor", "ttl_seconds": 600, "scope": None}
        asked = {"operation": "credential-issue", "reason": "a new auditor", "items": [{"ref": "", "request": issued}]}
        yield self.call("POST", "/v1/approvals", "custodian", asked)
        made = [self.live.post("/v1/approvals", "custodian", asked).json()["id"] for _ in range(3)]
        yield self.call("GET", "/v1/approvals", "auditor")
        yield self.call("GET", f"/v1/approvals/{made[0]}", "operator")
        signer = self.live.approver("operator")
        yield self.call("POST", f"/v1/approvals/{made[0]}/begin", "operator", {"authenticator": signer.authenticator})
        statement = signer.statement(made[0])
        signed = {"statement": statement, "signature": signer.signature(statement)}
        yield self.call("POST", f"/v1/approvals/{made[0]}/sign", "operator", signed)
        yield self.call("POST", f"/v1/approvals/{made[0]}/execute", "custodian", {})
        yield self.call("GET", f"/v1/approvals/{made[0]}/bundle", "auditor")
        yield self.call("POST", f"/v1/approvals/{made[1]}/deny", "operator", {"reason": "one is enough"})
        yield self.call("POST", f"/v1/approvals/{made[2]}/withdraw", "custodian", {"reason": "asked twice"})

    def _workloads(self) -> Iterator[Call]:
        scope = {"operations": ["encrypt"], "keys": [self.name("aes")]}
        name = f"spiffe://keyclave.localhost/{self.prefix}/app"
        named = {"name": name, "scope": scope}
        yield self.call("POST", "/v1/workloads", "operator", named)
        made = self.live.post("/v1/workloads", "operator", {**named, "name": name + "/second"}).json()["id"]
        yield self.call("PATCH", f"/v1/workloads/{made}", "operator", {"enabled": False, "scope": scope, "reason": "over"})
        yield self.call("GET", "/v1/workloads", "auditor")
        yield self.call("POST", "/v1/authority/renew", "operator", {})
        wanted = {"name": name, "uses": 50, "ttl_seconds": 600}
        yield self.call("POST", "/v1/enrolments", "operator", wanted)
        enrolment = self.live.post("/v1/enrolments", "operator", wanted).json()
        yield self.call("GET", "/v1/enrolments", "operator")
        csr, key = signing_request()
        self.others[enrolment["token"]] = self.live.get("/v1/whoami", enrolment["token"]).json()
        yield self.call("POST", "/v1/certificates", "application", {"csr": csr, "ttl_seconds": 600}, token=enrolment["token"])
        made = self.live.post("/v1/certificates", enrolment["token"], {"csr": csr}).json()
        identity = Identity(x509.load_pem_x509_certificate(made["certificate"].encode()), key)
        with TemporaryDirectory() as folder:
            context = identity.context(Path(folder), self.live.ca_file)
        with httpx.Client(base_url=self.live.url, verify=context, timeout=30) as http:
            http.event_hooks = self.live.http.event_hooks
            self.others[""] = http.get("/v1/whoami").json()
            call = self.call("POST", "/v1/tokens", "application", {"ttl_seconds": 600})
            call.http = http
            yield call
        yield self.call("GET", "/v1/certificates", "auditor")
        yield self.call("POST", f"/v1/certificates/{made['id']}/revoke", "custodian", {"outside": False, "reason": "over"})
        yield self.call("POST", f"/v1/enrolments/{enrolment['id']}/revoke", "custodian", {"reason": "over"})
        short = self.live.token(["encrypt"], [self.name("aes")])
        self.others[short] = self.live.get("/v1/whoami", short).json()
        yield self.call("POST", "/v1/credentials/renew", "application", {}, token=short)

    def _elevation(self) -> Iterator[Call]:
        name, person = self.name("clinician"), self.name("night-shift")
        clinician, shift = self.people["clinician"], self.people["night-shift"]
        glass: dict[str, Any] = {
            "principal": name, "role": "break-glass", "days": 30, "keys": [self.name("aes")], "operations": ["decrypt"],
            "reference": True, "reason": "emergency department",
        }  # fmt: skip
        yield self.call("POST", "/v1/eligibilities", "custodian", glass)
        made = self.live.post("/v1/eligibilities", "custodian", {"principal": person, "role": "operator"}).json()["id"]
        yield self.call("GET", "/v1/eligibilities", "auditor")
        taken = {"role": "operator", "reason": "incident 12", "minutes": 5}
        yield self.call("POST", "/v1/elevations", "person", taken, token=shift)
        yield self.call("GET", "/v1/elevations", "auditor")
        self.live.post(
            f"/v1/elevations/{self.live.get('/v1/elevations', 'auditor').json()['elevations'][0]['id']}/end", "operator"
        )
        yield self.call("POST", "/v1/elevations/approved", "person", taken, token=shift)
        mine = self.live.get("/v1/elevations", "auditor").json()["elevations"][0]["id"]
        yield self.call("POST", f"/v1/elevations/{mine}/end", "operator", {"reason": "done"})
        yield self.call("POST", f"/v1/eligibilities/{made}/revoke", "operator", {"reason": "left"})
        broken = {"reason": "unconscious patient", "reference": "p-1", "minutes": 1}
        yield self.call("POST", "/v1/break-glass", "person", broken, token=clinician)
        yield self.call("GET", "/v1/alarms", "auditor")
        alarm = self.live.get("/v1/alarms", "auditor").json()["alarms"][0]
        yield self.call("POST", f"/v1/alarms/{alarm['id']}/acknowledge", "auditor", {})
        self.live.post(f"/v1/elevations/{alarm['elevation']}/end", "operator")
        found = {"verdict": "justified", "notes": "seen in the chart"}
        yield self.call("POST", f"/v1/elevations/{alarm['elevation']}/review", "auditor", found)

    def _grants(self) -> Iterator[Call]:
        granted = {"grantee": self.name("grantee"), "operations": ["decrypt"], "keys": [self.name("aes")], "ttl_seconds": 600}
        full = {
            "context": {"patient": ["p-1"]}, "delegate": True, "exact": True, "networks": [], "purposes": ["treatment"],
            "uses": 5, "reason": "on call",
        }  # fmt: skip
        yield self.call("POST", "/v1/grants", "operator", {**granted, **full})
        made = [self.live.post("/v1/grants", "operator", granted).json()["id"] for _ in range(2)]
        yield self.call("GET", "/v1/grants", "auditor")
        yield self.call("GET", f"/v1/grants/{made[0]}", "operator")
        yield self.call("POST", f"/v1/grants/{made[0]}/retire", "application", {"reason": "done"}, token=self.people["grantee"])
        yield self.call("POST", f"/v1/grants/{made[1]}/revoke", "operator", {"reason": "left"})

    def _policy(self) -> Iterator[Call]:
        policy = "/v1/policy"
        yield self.call("GET", policy, "auditor")
        yield self.call("GET", f"{policy}/revisions", "operator")
        now = self.live.get(policy, "auditor").json()
        files = {**now["files"], f"{self.prefix}.cedar": HIDDEN.replace("PREFIX", self.prefix)}
        asked = {"principal": "first-custodian", "operation": "key-read", "key": self.name("aes"), "fresh": True, "aal": 1}
        case = {**asked, "name": "read", "allow": True, "policy": "custodian-duties", "approvers": 0}
        yield self.call("POST", f"{policy}/validate", "operator", {"files": files})
        yield self.call("POST", f"{policy}/plan", "operator", {"files": files, "reach": True})
        yield self.call("POST", f"{policy}/explain", "auditor", {**asked, "purpose": "treatment", "plane": "both"})
        yield self.call("POST", f"{policy}/test", "operator", {"cases": [case], "files": files})
        yield self.call("POST", f"{policy}/simulate", "auditor", {"files": files, "days": 1})
        yield self.call("GET", f"/v1/who-can?operation=encrypt&key={self.name('aes')}", "auditor")
        body = {"principal": self.name("third"), "role": "custodian", "ttl_seconds": 3600}
        third = str(self.live.post("/v1/credentials", "custodian", body).json()["token"])
        yield self.call("POST", f"{policy}/apply", "custodian", apply_request(self.live, files, third), token=third)

    def _reads(self) -> Iterator[Call]:
        yield self.call("GET", "/v1/keys", "auditor")
        yield self.call("GET", f"/v1/keys/{self.name('aes')}", "application")
        yield self.call("GET", f"/v1/keys/{self.name('sign')}/public-key", "application")
        yield self.call("GET", "/v1/credentials", "operator")
        yield self.call("GET", "/v1/whoami", "application")
        yield self.call("GET", "/v1/audit/events", "auditor")


def wrapped_for(pem: str, material: bytes) -> dict[str, str]:
    """Return `wrapped` and `kcv` of an import of `material`."""
    import hmac

    public: Any = load_pem_public_key(pem.encode())
    ephemeral = AESGCM.generate_key(256)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    wrapped = public.encrypt(ephemeral, oaep) + keywrap.aes_key_wrap_with_padding(ephemeral, material)
    return {"wrapped": b64(wrapped), "kcv": hmac.digest(material, b"keyclave/key-check/1", "sha256")[:4].hex()}
