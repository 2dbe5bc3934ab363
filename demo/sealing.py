"""Chapters four to seven: the folder becomes ciphertext, nothing in it is readable, and it comes back whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from demo import dicom
from demo.opening import KEY, People
from demo.records import DICOM, FHIR, Record
from demo.screen import Screen, many
from keyclave_client import Client, Encryptor
from keyclave_client.errors import KeyclaveError, Refused, Undecipherable, Unknown

INDEX, INDEX_CONTEXT = "index.kc", {"patient": "all", "purpose": "treatment", "resource": "index"}
_FORMS = {FHIR: b'"resourceType"', DICOM: bytes(8) + dicom.MARK}  # the mark alone is so short that chance would make it
_OTHERS = 120  # words of other patients to search each object for, at most; in the sample that is all there are


@dataclass(frozen=True, slots=True)
class Object:
    """A record as it is stored: a ciphertext under a name that says nothing."""

    path: Path
    record: Record


def seal(people: People, records: list[Record], folder: Path, screen: Screen) -> list[Object]:
    """Encrypt every record on this machine under a data key of its own, then their index, and delete the originals."""
    encryptor = people.application.encryptor(KEY)
    (folder / "sealed").mkdir()
    objects = []
    for number, record in enumerate(screen.track(records, "encrypting"), 1):
        sealed = Object(folder / "sealed" / f"{number:05}.kc", record)
        encryptor.encrypt_file(folder / "records" / record.name, sealed.path, record.context)
        objects.append(sealed)
    index = [{"object": one.path.name, "name": one.record.name, "context": one.record.context} for one in objects]
    (folder / "sealed" / INDEX).write_bytes(encryptor.encrypt(json.dumps(index).encode(), INDEX_CONTEXT))
    shutil.rmtree(folder / "records")
    screen.say("each file under a data key of its own, which the server wraps and binds to a context; the data does not travel")
    screen.say(f"for instance {json.dumps(records[-1].context)}")
    screen.prove(
        sorted(os.listdir(folder / "sealed")) == [*(one.path.name for one in objects), INDEX]
        and not (folder / "records").exists(),
        f"{many(len(objects), 'file')} and their index are ciphertext, under names that say nothing; the originals are deleted",
    )
    wrapped = {encryptor.inspect_file(one.path).key for one in objects}
    screen.prove(wrapped == {people.operator.get_key(KEY).id}, "every one names the key that it depends on")
    plain, stored = sum(record.size for record in records), sum(one.path.stat().st_size for one in objects)
    screen.result(f"{many(len(objects), 'data key')}, {stored - plain:,} bytes more")
    return objects


def search(objects: list[Object], screen: Screen) -> None:
    """Search every ciphertext for its own patient's words, for other patients' words, and for the marks of the file formats."""
    everyone = sorted({word for one in objects for word in one.record.words})
    others = everyone[:: 1 + (len(everyone) - 1) // _OTHERS]
    searched = found = 0
    for one in screen.track(objects, "searching"):
        data = one.path.read_bytes()
        for word in one.record.words.union(others, _FORMS.values()):
            searched += 1
            found += word in data
    screen.say("names, record numbers and ids of patients, the resourceType of FHIR, the mark of DICOM")
    screen.say(f"in the originals every file held its own: {sum(len(one.record.words) for one in objects):,} of these words")
    screen.prove(found == 0, f"{searched:,} searches through the ciphertexts: {found} found")
    screen.result(f"{searched:,} searches, {found} found")


def restore(application: Client, objects: list[Object], folder: Path, screen: Screen) -> None:
    """Decrypt everything from the ciphertexts alone, and compare with the hashes of the originals."""
    encryptor = application.encryptor(KEY)
    wanted = {one.record.name: one.record.sha256 for one in objects}
    same = 0
    for name, path, context in screen.track(list(_opened_index(encryptor, folder)), "decrypting"):
        dest = folder / "restored" / name
        dest.parent.mkdir(parents=True, exist_ok=True)
        encryptor.decrypt_file(path, dest, context)
        same += hashlib.sha256(dest.read_bytes()).hexdigest() == wanted.pop(name)
    shutil.rmtree(folder / "restored")
    screen.prove(
        not wanted and same == len(objects), f"{same} of {many(len(objects), 'file')} came back, byte for byte (SHA-256)"
    )
    screen.result(f"{same} of {many(len(objects), 'file')} identical")


def _opened_index(encryptor: Encryptor, folder: Path) -> Iterator[tuple[str, Path, Mapping[str, str]]]:
    """Yield the original name, the ciphertext and the context of each record."""
    sealed = folder / "sealed"
    for entry in json.loads(encryptor.decrypt((sealed / INDEX).read_bytes(), INDEX_CONTEXT)):
        yield entry["name"], sealed / entry["object"], entry["context"]


def refuse(application: Client, job: Client, objects: list[Object], folder: Path, screen: Screen) -> KeyclaveError:
    """Try to open a record as another patient's, for another purpose, with a bit changed, and by a program that may not read.

    Returns the first refusal, whose event is in the record like everything else.
    """
    mine = objects[-1]
    other = next(one for one in reversed(objects) if one.record.patient != mine.record.patient)
    first = _refusal(application, mine.path, {**mine.record.context, "patient": other.record.patient}, folder)
    screen.prove(isinstance(first, Undecipherable), f"{mine.record.person}'s record does not open as {other.record.person}'s")
    purpose = _refusal(application, mine.path, {**mine.record.context, "purpose": "marketing"}, folder)
    screen.prove(isinstance(purpose, Refused), "it does not open for marketing: the credential is bound to treatment")
    changed = folder / "changed.kc"
    data = bytearray(mine.path.read_bytes())
    data[-1] ^= 1
    changed.write_bytes(data)
    altered = _refusal(application, changed, mine.record.context, folder)
    screen.prove(isinstance(altered, Undecipherable), "with one bit changed it does not open at all")
    changed.unlink()
    reader = _refusal(job, mine.path, mine.record.context, folder)
    screen.prove(isinstance(reader, Refused | Unknown), "the program that rewraps cannot read what it rewraps")
    assert first is not None
    screen.result("4 of 4 refused")
    return first


def _refusal(client: Client, path: Path, context: Mapping[str, str], folder: Path) -> KeyclaveError | None:
    """Return what opening a file meets; None if it opened, or left anything behind."""
    dest = folder / "must-not-appear"
    try:
        client.encryptor(KEY).decrypt_file(path, dest, context)
    except KeyclaveError as error:
        return None if dest.exists() else error
    return None
