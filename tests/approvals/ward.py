"""Who approves in these tests: the ceremony's custodian, operator and auditor, and a second custodian and operator."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.live import ENVIRONMENT, Live


class Ward:
    """A server and its people. `ask` asks for the destruction of a key as the second custodian."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.tokens = live.tokens
        for name, role in (("second", "custodian"), ("night", "operator"), ("third", "custodian")):
            made = live.post("/v1/credentials", "custodian", {"principal": name, "role": role, "ttl_seconds": 86_400})
            assert made.status_code == 201, made.text
            self.tokens[name] = made.json()["token"]
        for who in ("custodian", "operator", "auditor", "second", "night", "third"):
            live.approver(who)

    def post(self, path: str, who: str, body: Any = None, **kwargs: Any) -> httpx.Response:
        """Send as somebody, with nobody's help."""
        return self.live.post(path, who, body, alone=True, **kwargs)

    def doomed(self, name: str) -> str:
        self.live.create_key(name)
        assert self.post(f"/v1/keys/{name}/deactivate", "operator", {"reason": "over"}).status_code == 200
        scheduled = {"version": 1, "days": 0, "reason": "end of retention"}
        assert self.post(f"/v1/keys/{name}/schedule-destruction", "custodian", scheduled).status_code == 200
        return name

    def ask(self, key: str, who: str = "second", **more: Any) -> dict[str, Any]:
        asked = {"operation": "destroy", "ref": key, "request": {"version": 1, "reason": "over"}, "reason": "end of retention"}
        made = self.post("/v1/approvals", who, {**asked, **more})
        assert made.status_code == 201, made.text
        return dict(made.json())

    def sign(self, approval: str, *names: str) -> None:
        for name in names:
            status, answer = self.live.approver(name).sign(approval)
            assert status == 200, answer

    def approved(self, key: str, **more: Any) -> str:
        """Return an approval of a destruction that the first custodian and the operator signed."""
        approval = str(self.ask(key, **more)["id"])
        self.sign(approval, "custodian", "operator")
        return approval

    def show(self, approval: str, who: str = "auditor") -> dict[str, Any]:
        return dict(self.live.get(f"/v1/approvals/{approval}", who).json())

    def execute(self, approval: str, who: str = "second", **kwargs: Any) -> httpx.Response:
        return self.post(f"/v1/approvals/{approval}/execute", who, {}, **kwargs)

    def state(self, key: str) -> str:
        return str(self.live.get(f"/v1/keys/{key}", "custodian").json()["versions"][0]["state"])

    def bundle(self, approval: str) -> dict[str, Any]:
        answer = self.live.get(f"/v1/approvals/{approval}/bundle", "auditor")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def vkeys(self, folder: Path) -> Path:
        path = folder / "vkeys.txt"
        path.write_text("\n".join(self.live.get("/v1/log/keys", "auditor").json()["vkeys"]) + "\n")
        return path

    def verify(self, bundle: dict[str, Any], folder: Path, *options: str) -> tuple[int, dict[str, Any]]:
        """Run the offline verifier's program."""
        (folder / "bundle.json").write_text(json.dumps(bundle))
        command = [sys.executable, "-m", "keyclave_verify", "approval", str(folder / "bundle.json"), "--json"]
        run = subprocess.run(
            [*command, "--vkey-file", str(self.vkeys(folder)), *options], capture_output=True, env=ENVIRONMENT, check=False
        )
        assert run.returncode in (0, 1), run.stderr
        return run.returncode, dict(json.loads(run.stdout))
