"""The health records that the demonstration protects: FHIR R4 bundles and DICOM images from the sample (PROVENANCE.md).

Every record says itself whose it is: the Patient resource of a bundle, the PatientID of an image. Both are read here, because
the encryption context binds each ciphertext to its patient.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

from demo import dicom
from demo.fhir import patient_of, record_number
from demo.variations import vary

SAMPLE = Path(__file__).parent / "sample.tar.xz"
SAMPLE_PATIENTS = 20
FHIR, DICOM = "fhir-bundle", "dicom"
TELLING = 6  # bytes: a shorter word stands somewhere in tens of megabytes of random bytes by chance, and proves nothing


@dataclass(frozen=True, slots=True)
class Record:
    """One file: its name in the folder, what it is, whose it is, and the words in it that would betray that patient."""

    name: str
    size: int
    sha256: str
    kind: str  # FHIR or DICOM
    patient: str
    person: str  # for people to read
    words: frozenset[bytes]

    @property
    def context(self) -> dict[str, str]:
        """Return the encryption context: what the ciphertext is bound to, and what must be said again to open it."""
        return {"patient": self.patient, "purpose": "treatment", "resource": self.kind}


def unpack(folder: Path, patients: int) -> Iterator[Record]:
    """Write the records of `patients` FHIR patients, and all images, below `folder`; yield each as it is written.

    Patients beyond those of the sample are variations of them.
    """
    files = list(sample())
    images = [file for file in files if not file[0].endswith(".json")]
    bundles = [file for file in files if file[0].endswith(".json")]
    further = (vary(bundles[at % len(bundles)][1], at // len(bundles)) for at in range(len(bundles), patients))
    for name, data in chain(images, bundles[:patients], further):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        yield read(name, data)


def sample() -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each file of the sample, in order."""
    with lzma.open(SAMPLE) as packed, tarfile.open(fileobj=packed, mode="r|") as tar:
        for member in tar:
            opened = tar.extractfile(member)
            if opened is None or ".." in PurePosixPath(member.name).parts or PurePosixPath(member.name).is_absolute():
                raise ValueError(f"{SAMPLE.name} holds {member.name!r}, which is no plain file below it")
            yield member.name, opened.read()


def read(name: str, data: bytes) -> Record:
    """Return the record in a file."""
    kind = FHIR if name.endswith(".json") else DICOM
    patient, person, words = _of_bundle(data) if kind == FHIR else _of_image(data)
    telling = frozenset(word for word in words if len(word) >= TELLING and word in data)
    if not telling:
        raise ValueError(f"{name} holds nothing that would betray its patient")
    return Record(name, len(data), hashlib.sha256(data).hexdigest(), kind, patient, person, telling)


def _of_bundle(data: bytes) -> tuple[str, str, list[bytes]]:
    patient = patient_of(json.loads(data))
    names = [part for known in patient["name"] for part in (known["family"], *known["given"])]
    written = [json.dumps(part, ensure_ascii=ascii).encode() for part in names for ascii in (True, False)]  # with their quotes
    words = [patient["id"].encode(), record_number(patient).encode(), *written]
    return patient["id"], " ".join((*patient["name"][0]["given"], patient["name"][0]["family"])), words


def _of_image(data: bytes) -> tuple[str, str, list[bytes]]:
    header = dicom.read_header(data)
    number, name, study = header.get(dicom.PATIENT_ID, b""), header.get(dicom.PATIENT_NAME, b""), header[dicom.STUDY]
    # PatientID may be empty (PS3.3, type 2): such a report is bound to its study, which is always there (type 1)
    patient = number or b"study " + study
    return patient.decode("ascii"), name.decode("latin-1").replace("^", " "), [number, name, study]
