"""The Kubernetes base, the Compose file, the Containerfile and all YAML are valid by their formats' own schemas, and closed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import compose_spec
import kubernetes_validate
import pytest
import yaml

from keyclave.app.config import FILE, load
from keyclave.store.pg.address import read_address
from tests.deploy.checking import DEPLOY, run

KUBERNETES = DEPLOY / "kubernetes"
BASE = KUBERNETES / "base"
OLDEST, NEWEST = "1.27", "1.37"  # of Kubernetes, that the manifests are checked against


def documents(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what a kustomization lists, as it stands in its files."""
    for name in yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]:
        path = folder / name
        if path.is_dir():
            yield from documents(path)
        else:
            yield from (one for one in yaml.safe_load_all(path.read_text()) if one)


@pytest.mark.requirement("R32")
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_manifest_fits_its_schema(version: str) -> None:
    found = list(documents(KUBERNETES / "example"))
    assert {"Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget"} <= {one["kind"] for one in found}
    for one in found:
        kubernetes_validate.validate(one, version, strict=True)


def test_a_misspelt_field_is_found() -> None:
    deployment = next(one for one in documents(BASE) if one["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["securityContex"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, NEWEST, strict=True)


def test_every_file_of_the_base_is_listed() -> None:
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(path.name for path in BASE.iterdir() if path.name != "kustomization.yaml")


def test_kustomize_builds_the_example() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on this machine, and no registry we use has one that is recent enough")
    code, said = run("kubectl", "kustomize", KUBERNETES / "example")
    assert code == 0, said
    built = list(yaml.safe_load_all(said))
    assert len(built) == len(list(documents(KUBERNETES / "example"))) + 1  # the generated configuration
    images = {c["image"] for one in built if one["kind"] == "Deployment" for c in one["spec"]["template"]["spec"]["containers"]}
    assert images == {"images.example.internal/keyclave:0.1.0"}


def test_the_server_takes_the_example_configuration(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text((KUBERNETES / "example" / FILE).read_text())
    config = load(tmp_path)
    address = read_address(config.store.url, password_file=tmp_path / config.store.password_file)
    assert address.settings["sslmode"] == "verify-full"
    assert address.settings["host"].count(",") == 2


@pytest.mark.requirement("R32")
def test_pods_are_closed() -> None:
    pod = next(one for one in documents(BASE) if one["kind"] == "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"] + pod["initContainers"]:
        closed = container["securityContext"]
        assert closed["capabilities"] == {"drop": ["ALL"]}
        assert closed["readOnlyRootFilesystem"] is True
        assert closed["allowPrivilegeEscalation"] is False
    served = pod["containers"][0]
    assert served["livenessProbe"]["httpGet"]["path"] != served["readinessProbe"]["httpGet"]["path"]
    assert all(volume["emptyDir"].get("medium") == "Memory" for volume in pod["volumes"] if "emptyDir" in volume)


def compose(text: str) -> Any:
    """Read a Compose file strictly. Merge keys (<<) are resolved first, as Compose itself does and this reader does not."""
    made = compose_spec.PyCompose.from_yaml(yaml.safe_dump(yaml.safe_load(text)))
    made.validate()
    return made


def test_the_compose_file_fits_its_specification() -> None:
    made = compose((DEPLOY / "compose/compose.yaml").read_text())
    assert sorted(made.service_names()) == ["database", "node1", "node2", "proxy"]


@pytest.mark.parametrize(
    ("right", "wrong"), [("unless-stopped", "sometimes"), ("  inside:\n    int", "  in:\n    int"), ("cap_drop", "capdrop")]
)
def test_a_fault_of_the_compose_file_is_found(right: str, wrong: str) -> None:
    text = (DEPLOY / "compose/compose.yaml").read_text()
    assert right in text
    with pytest.raises(ValueError, match=r"\S"):
        compose(text.replace(right, wrong))


def test_compose_publishes_on_loopback_only() -> None:
    services = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_containerfile_has_no_fault(tmp_path: Path) -> None:
    path = DEPLOY / "compose/Containerfile"
    code, said = run("hadolint", path)
    assert (code, said) == (0, "")
    planted = tmp_path / "Containerfile"
    planted.write_text(path.read_text().replace("FROM python:3.11-slim-bookworm\n", "FROM python\n"))
    code, said = run("hadolint", planted)
    assert code != 0
    assert "DL3006" in said


def test_all_yaml_is_tidy(tmp_path: Path) -> None:
    code, said = run("yamllint", "--strict", "-c", DEPLOY / "yamllint.yaml", DEPLOY)
    assert (code, said) == (0, "")
    planted = tmp_path / "a.yaml"
    planted.write_text("a: 1\na: 2\n")
    assert run("yamllint", "--strict", "-c", DEPLOY / "yamllint.yaml", planted)[0] != 0


@pytest.mark.requirement("R32")
def test_from_the_nodes_networks_only_the_servers_role_and_the_owner_reach_the_database() -> None:
    """A superuser's password that got out opens the record to whoever may connect: nodes have no need of one."""
    patroni = yaml.safe_load((DEPLOY / "patroni/patroni.yml").read_text())["postgresql"]["pg_hba"]
    compose = (DEPLOY / "compose/pg_hba.conf").read_text().splitlines()
    for lines in (patroni, compose):
        rules = [line.split() for line in lines if line.strip() and not line.startswith("#")]
        remote = [rule for rule in rules if rule[0] != "local"]
        assert {rule[0] for rule in remote} == {"hostssl"}
        assert {rule[-1] for rule in rules} == {"scram-sha-256"}
        assert [rule[2] for rule in remote if rule[1] == "keyclave"] == ["+keyclave_app,keyclave_owner"]
        assert not [rule for rule in remote if rule[2] == "all"]
