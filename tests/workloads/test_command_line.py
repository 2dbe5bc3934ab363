"""`keyclave workload` and the SDK, from the operator's registration to a renewed certificate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from keyclave_client import Client
from keyclave_client.enrolment import enrol, is_due
from keyclave_client.errors import KeyclaveError
from tests.live import ENVIRONMENT
from tests.workloads.conftest import OWN, House


def run(folder: Path, *arguments: str, code: int = 0) -> Any:
    """Run a command with --json and return what it wrote."""
    environment = {**ENVIRONMENT, "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)}
    command = [sys.executable, "-m", "keyclave_cli", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else {}


@pytest.mark.requirement("R32", "R33")
def test_from_the_registration_to_the_renewed_certificate(house: House, tmp_path: Path) -> None:
    name = f"spiffe://{OWN}/line/gateway"
    operator = tmp_path / "operator.token"
    operator.write_text(house.live.tokens["operator"])
    operator.chmod(0o600)
    manage = ("--url", house.live.url, "--ca-file", house.live.ca_file, "--token-file", str(operator))
    data = ("--url", house.data_url, "--ca-file", house.live.ca_file)
    registered = run(tmp_path, "workload", "register", name, "-o", "encrypt", "-k", "ward-*", *manage)
    made = run(tmp_path, "workload", "token", name, "--save-token", "gateway.token", *manage)
    assert "token" not in made
    assert (tmp_path / "gateway.token").stat().st_mode & 0o777 == 0o600
    issued = run(tmp_path, "workload", "enrol", "--token-file", "gateway.token", *data)
    assert (tmp_path / "workload.key").stat().st_mode & 0o777 == 0o600
    by = ("--cert", "workload.pem", "--cert-key", "workload.key")
    assert run(tmp_path, "credential", "whoami", *by, *data)["principal"] == name
    run(tmp_path, "workload", "renew", "--if-due", *data)  # not due: nothing happens
    assert run(tmp_path, "credential", "whoami", *by, *data)["credential"] == issued["id"]
    renewed = run(tmp_path, "workload", "renew", *data)
    assert renewed["id"] != issued["id"]
    assert run(tmp_path, "credential", "whoami", *by, *data)["credential"] == renewed["id"]
    listed = run(tmp_path, "workload", "certificates", "--name", name, *manage)
    assert {one["id"] for one in listed} == {issued["id"], renewed["id"]}
    run(tmp_path, "workload", "crl", "list.crl", "--url", house.live.url, "--ca-file", house.live.ca_file)
    assert (
        "BEGIN CERTIFICATE"
        in run(tmp_path, "workload", "authority", "--url", house.live.url, "--ca-file", house.live.ca_file)["certificates"]
    )
    run(tmp_path, "workload", "revoke", renewed["id"], "--reason", "drill", *manage)
    run(tmp_path, "credential", "whoami", *by, *data, code=1)
    assert [one["used"] for one in run(tmp_path, "workload", "tokens", *manage) if one["name"] == name] == [1]
    run(tmp_path, "workload", "disable", registered["id"], *manage)
    found = run(tmp_path, "workload", "list", *manage)
    assert next(one for one in found if one["name"] == name)["disabled_at"]
    run(tmp_path, "credential", "whoami", "--cert", "workload.pem", *data, code=2)
    assert (tmp_path / "list.crl").stat().st_size > 100


@pytest.mark.requirement("R33")
def test_the_sdk_enrols_renews_and_shows_the_new_certificate_at_the_next_request(house: House, tmp_path: Path) -> None:
    name = f"spiffe://{OWN}/sdk"
    house.register(name, ["encrypt"], ["ward-*"])
    files = (str(tmp_path / "sdk.pem"), str(tmp_path / "sdk.key"))
    with Client(house.data_url, house.enrolment(name)["token"], ca_file=house.live.ca_file) as client:
        first = enrol(client, *files, ttl_seconds=600)
    with Client(house.data_url, ca_file=house.live.ca_file, certificate=files) as client:
        assert client.whoami().credential == first.id
        assert client.encrypt("ward-records", b"record").ciphertext
        token = client.issue_bound_token()
        second = enrol(client, *files, ttl_seconds=600)
        assert client.whoami().credential == second.id
        assert not is_due(files[0])
        assert is_due(files[0], datetime.now(UTC) + timedelta(seconds=400))
        with Client(house.data_url, token.token, ca_file=house.live.ca_file) as thief, pytest.raises(KeyclaveError):
            thief.whoami()
        assert client.revocation_list()[:1] == b"\x30"
        assert "CERTIFICATE" in client.authority_bundle()
    assert sorted(os.listdir(tmp_path)) == ["sdk.key", "sdk.pem"]


@pytest.mark.requirement("R33")
def test_the_sdk_carries_its_credential_on(house: House) -> None:
    with Client(house.data_url, house.live.token(["encrypt"], ["ward-*"], ttl=600), ca_file=house.live.ca_file) as client:
        renewed = client.renew_credential()
    with Client(house.data_url, renewed.token, ca_file=house.live.ca_file) as client:
        assert client.whoami().credential == renewed.id
