"""systemd reads every unit without a complaint, and finds the services closed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.deploy.checking import DEPLOY, run

UNITS = sorted(path for path in (DEPLOY / "systemd").iterdir() if path.suffix in (".service", ".timer"))
SERVICES = [path for path in UNITS if path.suffix == ".service"]
# systemd's own measure, 0 (closed) to 10 (open). What an operator may lower, nobody may raise unseen.
EXPOSURE = {"keyclave.service": 1.5, "keyclave-disk-guard.service": 1.5, "patroni.service": 2.0, "keyclave-backup@.service": 2.5}
_OURS = ("/opt/keyclave/bin/keyclave", "/opt/patroni/bin/patroni", "/usr/bin/pgbackrest", "/usr/bin/curl")


def verify(unit: Path) -> list[str]:
    """Return what systemd says against a unit, leaving out that our programs are not installed on this machine."""
    _, said = run("systemd-analyze", "verify", "--man=no", unit)
    absent = re.compile(r"Command (" + "|".join(map(re.escape, _OURS)) + r") is not executable")
    return [line for line in said.splitlines() if unit.stem.split("@")[0] in line and not absent.search(line)]


@pytest.mark.requirement("R32")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_the_unit(unit: Path) -> None:
    assert verify(unit) == []


def test_a_misspelt_setting_is_found(tmp_path: Path) -> None:
    planted = tmp_path / "keyclave.service"
    planted.write_text((DEPLOY / "systemd/keyclave.service").read_text().replace("ProtectSystem=", "ProtectSytem="))
    assert any("ProtectSytem" in line for line in verify(planted))


def exposure(unit: Path) -> float:
    """Return systemd's measure of how much a service could do."""
    _, said = run("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found, said
    return float(found.group(1))


@pytest.mark.requirement("R32")
@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_the_service_is_closed(unit: Path) -> None:
    assert exposure(unit) <= EXPOSURE[unit.name]


def test_an_opened_service_is_found(tmp_path: Path) -> None:
    planted = tmp_path / "keyclave.service"
    planted.write_text(re.sub(r"(?m)^(SystemCallFilter|CapabilityBoundingSet|NoNewPrivileges)=.*$", "", UNITS_TEXT))
    assert exposure(planted) > EXPOSURE["keyclave.service"]


UNITS_TEXT = (DEPLOY / "systemd/keyclave.service").read_text()


def test_keys_are_neither_swapped_nor_dumped() -> None:
    lines = set(UNITS_TEXT.splitlines())
    assert {"LimitCORE=0", "MemorySwapMax=0", "LimitMEMLOCK=256M"} <= lines
    assert any(line.startswith("SystemCallFilter=") and "memfd_secret" in line for line in lines)
