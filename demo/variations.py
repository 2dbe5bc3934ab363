"""More patients than the sample has: further ones made from its bundles, with another identity each.

A variation has its own ids, names, numbers, address and birth date, and its whole history lies some weeks earlier; who treated
the patient, and what for, stays. It follows from the bundle and its number alone, so two runs make the same patients. The
result is valid FHIR with consistent references, but it adds patients, not medical variety: the demonstration says so.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import uuid
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

from demo.fhir import patient_of

GIVEN = {
    "female": (
        "Aurelia",
        "Benedikta",
        "Cosima",
        "Dorothea",
        "Elowen",
        "Fenella",
        "Ginevra",
        "Hedwig",
        "Isolde",
        "Jessamy",
        "Katarina",
    ),
    "male": (
        "Ambrose",
        "Bartholomew",
        "Cornelius",
        "Dietrich",
        "Evander",
        "Florian",
        "Gideon",
        "Horatio",
        "Ignatius",
        "Jasper",
        "Konrad",
    ),
}
FAMILY = (
    "Abendroth", "Birkenfeld", "Castellane", "Dunwoody", "Eichendorff", "Fairweather", "Goldberry", "Hollingworth", "Ironside",
    "Jellicoe", "Kingsbridge", "Lindqvist", "Merriweather",
)  # fmt: skip
_STAFF = {"Organization", "Practitioner", "PractitionerRole", "Location"}  # whom several patients share: they keep their ids
_SPACE = uuid.UUID("6f0d6c3e-53d1-4b5e-9d54-1f2c3a7b8e90")

_UUID = r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"
_UID = r"\b2\.25\.[0-9]+"  # DICOM UIDs made from UUIDs (PS3.5, B.2)
_DATE = r"\b(?:19|20)[0-9]{2}-[01][0-9]-[0-3][0-9](?![0-9-])"
_NOTE = re.compile(r'("contentType": "text/plain[^"]*",\s*"data": ")([A-Za-z0-9+/=]+)(")')


def vary(bundle: bytes, number: int) -> tuple[str, bytes]:
    """Return the file name and the bytes of variation `number` of a bundle."""
    change = _change(json.loads(bundle), number)

    def note(match: re.Match[str]) -> str:
        text = base64.b64decode(match[2]).decode()
        return match[1] + base64.b64encode(change(text).encode()).decode() + match[3]

    varied = change(_NOTE.sub(note, bundle.decode()))
    patient = patient_of(json.loads(varied))
    name = patient["name"][0]
    return f"fhir/{name['given'][0]}_{name['family']}_{patient['id'][:8]}.json", varied.encode()


def _change(bundle: dict[str, Any], number: int) -> Callable[[str], str]:
    """Return what turns any text of the bundle into the variation's."""
    patient = patient_of(bundle)
    chance = _Chance(f"{patient['id']}/{number}")
    words = _new_words(patient, chance)
    staff = {entry["resource"]["id"] for entry in bundle["entry"] if entry["resource"]["resourceType"] in _STAFF}
    earlier = timedelta(weeks=1 + chance.below(150))  # whole weeks: appointments stay on their weekdays
    exact = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    pattern = re.compile(rf"(?P<id>{_UUID})|(?P<uid>{_UID})|(?P<word>\b(?:{exact})\b)|(?P<date>{_DATE})")

    def one(match: re.Match[str]) -> str:
        found = match[0]
        if match["word"]:
            return words[found]
        if match["date"]:
            return (date.fromisoformat(found) - earlier).isoformat()
        if match["id"]:
            return found if found in staff else str(uuid.uuid5(_SPACE, f"{number}/{found}"))
        return f"2.25.{uuid.uuid5(_SPACE, f'{number}/{found}').int}"

    return lambda text: pattern.sub(one, text)


def _new_words(patient: dict[str, Any], chance: _Chance) -> dict[str, str]:
    """Return what replaces each word that identifies the patient."""
    words: dict[str, str] = {}
    for name in patient["name"]:
        words.setdefault(name["family"], chance.of(FAMILY))
        for given in name["given"]:
            words.setdefault(given, chance.of(GIVEN.get(patient["gender"], FAMILY)))
    for identifier in patient["identifier"]:
        words[identifier["value"]] = chance.like(identifier["value"])
    for contact in patient["telecom"]:
        at_home = f"{words[patient['name'][0]['family']].lower()}{chance.below(1000)}@example.com"
        words[contact["value"]] = at_home if contact["system"] == "email" else "555-" + chance.like(contact["value"][4:])
    for address in patient["address"]:
        for line in address["line"]:
            words[line] = f"{1 + chance.below(9999)} {chance.of(FAMILY)} Street"
    return words | {json.dumps(old)[1:-1]: new for old, new in words.items()}  # as they are, and as JSON in ASCII has them


class _Chance:
    """Choices that follow from a text alone."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._drawn = 0

    def below(self, limit: int) -> int:
        self._drawn += 1
        return int.from_bytes(hashlib.sha256(f"{self._seed}/{self._drawn}".encode()).digest()[:8], "big") % limit

    def of(self, choices: tuple[str, ...]) -> str:
        return choices[self.below(len(choices))]

    def like(self, text: str) -> str:
        """Return `text` with other digits; the 999 that marks invented social security numbers stays."""
        kept = 4 if text.startswith("999-") else 0
        return text[:kept] + "".join(str(self.below(10)) if char.isdigit() else char for char in text[kept:])
