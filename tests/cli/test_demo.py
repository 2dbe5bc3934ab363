"""The demonstration: it proves what it says, it fails when a claim does not hold, and it leaves nothing behind."""

from __future__ import annotations

import base64
import io
import json
import lzma
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo import dicom, make_sample, opening, story
from demo.fhir import patient_of, record_number
from demo.house import free_port
from demo.records import SAMPLE, SAMPLE_PATIENTS, Record, read, sample, unpack
from demo.screen import Screen, Unproven
from demo.sealing import Object, search
from demo.variations import vary
from tests.live import ENVIRONMENT

FILES = dict(sample())
BUNDLES = {name: data for name, data in FILES.items() if name.endswith(".json")}
IMAGES = {name: data for name, data in FILES.items() if name.endswith(".dcm")}
SECONDS = 90  # after set-up, on two cores


def _start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SAMPLE.parent / "run.py"), *arguments]
    return subprocess.Popen(
        command, env={**ENVIRONMENT, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _is_served(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except ConnectionRefusedError:
        return False
    return True


# --- the whole of it ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, float, int]:
    """One run with a variation beyond the sample: its folder, what it printed, its seconds, its port."""
    folder, port, began = tmp_path_factory.mktemp("demo") / "kept", free_port(), time.monotonic()
    run = _start("--patients", str(SAMPLE_PATIENTS + 1), "--keep", str(folder), "--port", str(port))
    printed, _ = run.communicate()
    assert run.returncode == 0, printed
    return folder, printed, time.monotonic() - began, port


@pytest.mark.requirement("R11", "R14", "R24", "R40", "P2", "P9")
def test_the_main_job_proves_itself_within_its_time(kept: tuple[Path, str, float, int]) -> None:
    _, printed, seconds, port = kept
    assert seconds < SECONDS
    plain = " ".join(printed.split())
    for claim in (
        "one share opens nothing",
        "searches through the ciphertexts: 0 found",
        f"{len(FILES) + 1} of {len(FILES) + 1} files came back, byte for byte",
        "credential is revoked, and its next request is refused",
        "0 of them stand in its files",
        "the forgery is found",
    ):
        assert claim in plain
    assert "1 variation among the patients" in plain
    assert not _is_served(port)


@pytest.mark.requirement("R5", "R40", "P8")
def test_what_is_kept_verifies_and_the_forgery_does_not(kept: tuple[Path, str, float, int]) -> None:
    folder = kept[0]

    def verified(log: str) -> int:
        command = [sys.executable, "-m", "keyclave_verify", "log", str(folder / log)]
        keys = ["--vkey-file", str(folder / "auditor/trusted-keys.txt")]
        return subprocess.run([*command, *keys], env=ENVIRONMENT, capture_output=True, check=False).returncode

    assert (verified("log"), verified("forged-log")) == (0, 1)
    for tiles in ("tile/entries", "tile/0"):
        copies = [path for path in (folder / "log" / tiles).rglob("*") if path.is_file()]
        differences = sum(
            old != new
            for path in copies
            for old, new in zip(
                path.read_bytes(), (folder / "forged-log" / path.relative_to(folder / "log")).read_bytes(), strict=True
            )
        )
        assert differences == (1 if tiles == "tile/entries" else 0)


@pytest.mark.requirement("R1", "P8")
def test_nothing_that_is_kept_betrays_a_patient(kept: tuple[Path, str, float, int]) -> None:
    words = {word for name, data in FILES.items() for word in read(name, data).words}
    held = {path: path.read_bytes() for path in kept[0].rglob("*") if path.is_file()}
    assert len(held) > len(FILES)
    assert not [(path.name, word) for path, data in held.items() for word in words if word in data]


def test_a_folder_with_something_in_it_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    assert story.tell(1, tmp_path, 0) == 2
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"mine": "mine"}


def test_a_run_that_is_ended_ends_its_server_and_leaves_nothing(tmp_path: Path) -> None:
    port = free_port()
    run = _start("--patients", "1", "--port", str(port), TMPDIR=str(tmp_path), PYTHONUNBUFFERED="1")
    assert run.stdout is not None
    for line in run.stdout:
        if "two of three shares open it" in line:
            break
    served = _is_served(port)
    run.send_signal(signal.SIGTERM)
    run.communicate()
    assert (served, run.returncode, _is_served(port)) == (True, 128 + signal.SIGTERM, False)
    assert os.listdir(tmp_path) == []


# --- it can fail -------------------------------------------------------------------------------------------------------------


def test_one_wrong_byte_fails_the_demonstration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def disturbed(folder: Path, patients: int) -> list[Record]:
        first, *others = unpack(folder, patients)
        path = folder / first.name
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        return [first, *others]

    monkeypatch.setattr(opening, "unpack", disturbed)
    port = free_port()
    assert story.tell(1, tmp_path / "kept", port) == 1
    printed = capsys.readouterr().out
    assert "NOT PROVEN" in printed
    assert f"{len(IMAGES)} of {len(IMAGES) + 1} files came back" in printed
    assert not _is_served(port)


def test_the_search_finds_what_can_be_read(tmp_path: Path) -> None:
    name, data = next(iter(IMAGES.items()))
    path = tmp_path / "00001.kc"
    path.write_bytes(data)
    with pytest.raises(Unproven, match="searches through the ciphertexts"):
        search([Object(path, read(name, data))], Screen())
    path.write_bytes(os.urandom(len(data)))
    search([Object(path, read(name, data))], Screen())


# --- the sample --------------------------------------------------------------------------------------------------------------


def test_the_sample_is_small_and_packed_as_its_maker_packs_it() -> None:
    assert SAMPLE.stat().st_size <= 3_000_000
    tar = lzma.decompress(SAMPLE.read_bytes())
    assert tar == make_sample.pack(FILES)
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        assert {(member.mtime, member.uid, member.gid, member.isreg()) for member in opened} == {(0, 0, 0, True)}


def test_the_sample_holds_whole_patients_with_references_that_resolve() -> None:
    assert len(BUNDLES) == SAMPLE_PATIENTS
    for data in BUNDLES.values():
        _check_bundle(json.loads(data))


def _check_bundle(bundle: dict[str, Any]) -> None:
    """Check what FHIR R4 demands of a transaction bundle as such: Bundle.entry's rules, and references inside it."""
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "transaction")
    urls = [entry["fullUrl"] for entry in bundle["entry"]]
    assert len(set(urls)) == len(urls)
    for entry in bundle["entry"]:
        assert entry["fullUrl"] == f"urn:uuid:{entry['resource']['id']}"
        assert entry["request"] == {"method": "POST", "url": entry["resource"]["resourceType"]}
    assert set(re.findall(r"urn:uuid:[0-9a-f-]{36}", json.dumps(bundle))) <= set(urls)


def test_a_variation_is_another_patient_with_the_same_history() -> None:
    for name, data in sorted(BUNDLES.items(), key=lambda bundle: len(bundle[1]))[:10]:
        varied = vary(data, 1)[1]
        assert vary(data, 1)[1] == varied
        old, new = json.loads(data), json.loads(varied)
        _check_bundle(new)
        assert _kinds(old) == _kinds(new)
        assert _staff(old) == _staff(new)
        notes = b"".join(base64.b64decode(note) for note in re.findall(rb'"data": "([A-Za-z0-9+/=]+)"', varied))
        was, now = (patient_of(bundle)["name"][0]["given"][0].encode() + b" is a" for bundle in (old, new))
        assert (was in notes, now in notes) == (False, True)
        assert not [word for word in read(name, data).words if word in varied]
        assert patient_of(new)["birthDate"] < patient_of(old)["birthDate"]


def _staff(bundle: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Practitioner"]


def _kinds(bundle: dict[str, Any]) -> Counter[tuple[str, ...]]:
    return Counter((entry["resource"]["resourceType"], *sorted(entry["resource"])) for entry in bundle["entry"])


def test_many_variations_are_different_patients(tmp_path: Path) -> None:
    smallest = min(BUNDLES.values(), key=len)
    patients = [patient_of(json.loads(vary(smallest, number)[1])) for number in range(1, 40)]
    for distinct in ({one["id"] for one in patients}, {record_number(one) for one in patients}):
        assert len(distinct) == len(patients)
    fewer = list(unpack(tmp_path, 2))
    assert Counter(record.kind for record in fewer) == {"fhir-bundle": 2, "dicom": len(IMAGES)}


# --- the DICOM reader --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "patient", "number", "modality"),
    [
        ("CT_small", b"CompressedSamples^CT1", b"1CT1", b"CT"),  # explicit little endian
        ("MR_small_bigendian", b"CompressedSamples^MR1", b"4MR1", b"MR"),
        ("MR_small_implicit", b"CompressedSamples^MR1", b"4MR1", b"MR"),
        ("rtplan", b"Last^First^mid^pre", b"id00001", b"RTPLAN"),  # implicit, with sequences before the patient
        ("waveform_ecg", b"Anonymous", b"642341", b"ECG"),
        ("test-SR", b"Test^S R", b"", b"SR"),  # an empty PatientID
    ],
)
def test_the_reader_finds_whose_image_it_is(name: str, patient: bytes, number: bytes, modality: bytes) -> None:
    header = dicom.read_header(IMAGES[f"dicom/{name}.dcm"])
    assert (header[dicom.PATIENT_NAME], header[dicom.PATIENT_ID], header[dicom.MODALITY]) == (patient, number, modality)


@given(st.sampled_from(sorted(IMAGES)), st.integers(0, 4000), st.integers(1, 255), st.integers(0, 4000))
def test_a_damaged_image_is_a_value_error(name: str, at: int, change: int, end: int) -> None:
    data = bytearray(IMAGES[name])
    data[at % len(data)] ^= change
    try:
        found = dicom.read_header(bytes(data[: max(end, at + 1)]))
    except ValueError:
        return
    assert dicom.STUDY in found
