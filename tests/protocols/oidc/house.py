"""A real provider in Node, a server that believes it, and browsers that go between the two."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import httpx
from joserfc.jwk import ECKey, OKPKey, RSAKey

from keyclave.app.config import load
from keyclave.app.stores import open_store
from keyclave.crypto.pyca import PycaModule
from keyclave.policy.bundle import Bundle
from keyclave.store.access import policies
from tests.live import Live, launch

PROGRAM = Path(__file__).parents[2] / "oidc_provider" / "server.js"
ALGORITHMS = {"corp": "RS256", "corp-ps": "PS256", "corp-es": "ES256", "corp-ed": "EdDSA"}
SECRET = "a secret / with + signs"
RULES = """
[roles.researcher]
duty = "person"

[roles.registrar]
duty = "person"

[roles.lonely]
duty = "person"

[roles.night-operator]
duty = "operator"

[[exclusive]]
roles = ["researcher", "lonely"]
why = "who studies records does not keep them"

[sign_on.corp.groups]
research = "researcher"
registry = "registrar"
lonely = "lonely"
night = "night-operator"

[sign_on.corp.acr]
"urn:hospital:password" = 1
"urn:hospital:strong" = 3

[sign_on.corp.amr]
mfa = 2

[sign_on.corp-es.groups]
members = "person"
"""


def signing_keys(mark: str) -> list[dict[str, Any]]:
    """Return private keys of every kind that a provider signs with; `mark` makes their ids."""
    made = [RSAKey.generate_key(2048), ECKey.generate_key("P-256"), OKPKey.generate_key("Ed25519")]
    return [{**dict(key.as_dict(private=True)), "kid": f"{mark}-{i}", "use": "sig"} for i, key in enumerate(made)]


@dataclass
class NodeProvider:
    """The provider's process and settings."""

    folder: Path
    port: int
    settings: dict[str, Any]
    process: subprocess.Popen[str] | None = None

    @property
    def issuer(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; it has said that it listens when this returns."""
        path = self.folder / "provider.json"
        path.write_text(json.dumps(self.settings))
        log = (self.folder / "provider.log").open("a")
        environment = {"PATH": os.environ["PATH"], "NODE_ENV": "test"}
        command = ["node", str(PROGRAM), str(path)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True)
        log.close()
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "listening\n", (self.folder / "provider.log").read_text()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()

    def rotate(self, mark: str) -> None:
        """Begin to sign with new keys; the old ones are gone."""
        self.stop()
        self.settings["jwks"] = {"keys": signing_keys(mark)}
        self.start()


@dataclass
class Browser:
    """A browser: cookies, and one step at a time."""

    origin: str
    ca_file: str
    http: httpx.Client = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(verify=ssl.create_default_context(cafile=self.ca_file), timeout=30)

    def get(self, path: str, **kwargs: Any) -> httpx.Response:
        """Visit a page of ours, or an address, without following where it leads."""
        return self.http.get(path if path.startswith("https://") else self.origin + path, **kwargs)

    def begin(self, provider: str = "corp", **query: str) -> str:
        """Begin a sign-on and return where the provider is asked."""
        answer = self.get(f"/v1/sso/{provider}/start", params=query)
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    def prove(self, address: str, login: str = "", **said: str) -> str:
        """Log in at the provider and return the address that it sends the browser back to, not visited yet.

        Without `login` the provider's own session of this browser must do.
        """
        answer = self.http.get(address)
        while not self._is_back(answer):
            if answer.status_code == 200:
                assert login, "the provider asks for a login"
                answer = self.http.post(str(answer.url), data={"login": login, **said})
            else:
                assert answer.status_code == 303, answer.text
                answer = self.http.get(str(answer.url.join(answer.headers["location"])))
        return str(answer.headers["location"])

    def _is_back(self, answer: httpx.Response) -> bool:
        return str(answer.headers.get("location", "")).startswith(self.origin)

    def sign_on(self, login: str, provider: str = "corp", *, said: dict[str, str] | None = None, **query: str) -> httpx.Response:
        """Go the whole way and return the last page."""
        return self.get(self.prove(self.begin(provider, **query), login, **(said or {})))

    def leave_provider(self) -> None:
        """Forget the provider's session, as on another day."""
        self.http.cookies.clear(domain="127.0.0.1")

    @property
    def token(self) -> str:
        """The session that the browser's cookie holds."""
        return str(self.http.cookies.get("__Host-keyclave", default="") or "")


@dataclass
class House:
    """A server that believes the provider under several names, one for each algorithm."""

    live: Live
    provider: NodeProvider

    @property
    def origin(self) -> str:
        return f"https://localhost:{self.live.port}"

    def browser(self) -> Browser:
        return Browser(self.origin, self.live.ca_file)

    def invite(self, principal: str, role: str = "person") -> str:
        """Invite somebody by two people, and return the name."""
        made = self.live.post("/v1/invitations", "operator", {"principal": principal, "role": role, "hours": 2})
        assert made.status_code == 201, made.text
        confirmed = self.live.post(f"/v1/invitations/{made.json()['id']}/confirm", "custodian", {"reason": "known"})
        assert confirmed.status_code == 200, confirmed.text
        return principal

    def who(self, browser: Browser) -> dict[str, Any]:
        """Return what the server says of a browser's session."""
        answer = self.live.get("/v1/whoami", browser.token)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def events(self, op: str) -> list[dict[str, Any]]:
        """Return the log's events of an operation, oldest first."""
        answer = self.live.get("/v1/audit/events", "auditor", params={"operation": op, "limit": 1000})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["events"])


def changed(address: str, **query: str | None) -> str:
    """Return an address with parameters changed, or taken away where they are None."""
    parts = urlsplit(address)
    said = {**dict(parse_qsl(parts.query, keep_blank_values=True)), **query}
    return urlunsplit(parts._replace(query=urlencode({name: value for name, value in said.items() if value is not None})))


def query_of(address: str) -> dict[str, str]:
    """Return the parameters of an address."""
    return dict(parse_qsl(urlsplit(address).query))


def settings_of(port: int, origin: str) -> dict[str, Any]:
    """Return the provider's settings but for its certificate: clients, people, keys."""
    client = {"client_secret": SECRET, "redirect_uris": [], "response_types": ["code"], "scope": "openid groups"}
    clients = [
        {
            **client, "client_id": f"keyclave {name}", "redirect_uris": [f"{origin}/v1/sso/{name}/callback"],
            "id_token_signed_response_alg": algorithm,
        }
        for name, algorithm in ALGORITHMS.items()
    ]  # fmt: skip
    accounts = {
        "alice": {"groups": ["research", "registry", "night", "canteen"]}, "bob": {"groups": ["lonely", "research"]},
        "carol": {"groups": ["members"]}, "dave": {"groups": []},
    }  # fmt: skip
    return {"port": port, "clients": clients, "accounts": accounts, "jwks": {"keys": signing_keys("first")}}


def section(name: str, issuer: str, **more: Any) -> str:
    """Return the [[oidc]] of a provider."""
    said = {
        "name": name, "label": f"Hospital {name}", "issuer": issuer, "client_id": f"keyclave {name}", "ca": "tls/ca.pem",
        "client_secret_file": "client.secret", "scopes": ["openid", "groups"], "groups": "groups",
        "acr_values": ["urn:hospital:strong", "urn:hospital:password"], **more,
    }  # fmt: skip
    lines = [f"{key} = {json.dumps(value)}" for key, value in said.items() if value is not None]
    return "\n[[oidc]]\n" + "\n".join(lines) + "\n"


def launch_with(folder: Path, sections: str, rules: str = RULES) -> Live:
    """Start a server with providers and rules of its own."""
    home = folder / "home"

    def configure(text: str) -> str:
        (home / "client.secret").write_text(SECRET + "\n")
        (home / "client.secret").chmod(0o600)
        _add_rules(home, rules)
        port = re.search(r"^port = (\d+)$", text, re.MULTILINE)
        assert port is not None
        return text + sections.replace("{port}", port[1])

    return launch(folder, "--development", configure=configure, unseal=False)


def _add_rules(home: Path, rules: str) -> None:
    """Put rules in force before the server starts: as if people had applied them."""
    store = open_store(load(home), home, PycaModule())
    try:

        def write(conn: Any) -> None:
            from keyclave.store.access.people import find_tenant

            tenant = find_tenant(conn, "")
            assert tenant is not None
            first = policies.read_revision(conn, tenant)
            assert first is not None
            files = {**first.files, "rules.toml": first.files["rules.toml"] + rules}
            next_one = policies.Revision(
                tenant=tenant, number=first.number + 1, files=files, digest=Bundle(files=files).digest(),
                applied_at=first.applied_at + 1, applied_by="custodian", approval="apr_test",
            )  # fmt: skip
            policies.insert_revision(conn, next_one)

        store.write(write)
    finally:
        store.close()


def link_in(page: str) -> str:
    """Return where a page goes on by itself."""
    found = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', page)
    assert found is not None, page
    return found[1]
