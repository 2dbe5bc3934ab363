"""Chapters eleven to thirteen: what the server's own files show, the record anyone can check, and a forgery that is caught."""

from __future__ import annotations

import json
import shutil
import time

from demo.house import House
from demo.opening import APPLICATION, KEY, People
from demo.records import TELLING
from demo.screen import Screen
from demo.sealing import Object
from keyclave_client import Client
from keyclave_client.errors import KeyclaveError, Unknown

KEYS = "trusted-keys.txt"
FIRST_CHECKPOINT = "first-checkpoint"
_CHECKPOINT_SECONDS = 10


def keep_trust(house: House, screen: Screen) -> None:
    """Keep the log's public keys and a first checkpoint apart from the server, as an auditor would from the first day on."""
    _covering(house)
    keys = house.client().log_keys()
    trust = house.folder / "auditor"
    trust.mkdir()
    (trust / KEYS).write_text("".join(f"{key}\n" for key in keys.vkeys))
    (trust / FIRST_CHECKPOINT).write_bytes(house.client().checkpoint())
    screen.say(f"the auditor keeps the public keys of the log {keys.origin}, and its first checkpoint")


def _covering(house: House) -> None:
    """Return when the signed checkpoint covers every event there is now."""
    client, deadline = house.client(), time.monotonic() + _CHECKPOINT_SECONDS
    size = client.status().log["size"]
    while _signed(client) < size:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no checkpoint over {size} events within {_CHECKPOINT_SECONDS} s")
        time.sleep(0.05)  # between two looks at the condition


def _signed(client: Client) -> int:
    """Return how many events the newest checkpoint covers: its second line (C2SP tlog-checkpoint); 0 before the first one."""
    try:
        return int(client.checkpoint().split(b"\n")[1])
    except Unknown:
        return 0


def search_database(house: House, objects: list[Object], screen: Screen) -> None:
    """Search the server's database, with its write-ahead log, for the patients whose keys it has made hundreds of times."""
    files = [*sorted(house.home.glob("keyclave.db*")), house.log]
    content = b"".join(path.read_bytes() for path in files)
    values = {value for one in objects for name, value in one.record.context.items() if name != "purpose"}
    telling = sorted(value for value in values if len(value) >= TELLING)
    found = [value for value in telling if value.encode() in content]
    screen.say(f"{', '.join(path.name for path in files)}: {len(content):,} bytes")
    screen.prove(
        KEY.encode() in content and APPLICATION.encode() in content and b"p:treatment" in content,
        "the search works: it finds the key's name, the caller, and the purpose, which policy marks as plain",
    )
    screen.prove(not found, f"{len(telling)} context values that the server was given: {len(found)} of them stand in its files")
    screen.result(f"{len(telling)} context values, {len(found)} found")


def check_record(house: House, people: People, refusal: KeyclaveError, screen: Screen) -> None:
    """Export the log and verify it offline, with the keys kept apart; then prove one event by its receipt."""
    _covering(house)
    home, log, auditor = house.home, house.folder / "log", house.folder / "auditor"
    house.keyclave("--home", str(home), "--profile", "auditor", "audit", "export", str(log))
    code, report = house.verify(
        "log", str(log), "--vkey-file", str(auditor / KEYS), "--checkpoint", str(auditor / FIRST_CHECKPOINT), "--strict"
    )
    screen.prove(
        code == 0 and report["good"],
        f"{report['size']:,} events: signed, whole, in order, and a continuation of the first checkpoint",
    )
    receipt = house.folder / "receipt.json"
    event = str(refusal.event)
    house.keyclave("--home", str(home), "--profile", "auditor", "audit", "receipt", event, "--out", str(receipt))
    code, _ = house.verify("receipt", str(receipt), "--vkey-file", str(auditor / KEYS))
    screen.prove(code == 0, "a receipt proves one of them by itself: the attempt to open a record as another patient's")
    leaf = json.loads(people.auditor.receipt(event).leaf)
    screen.say(f"it says: {leaf['actor']}, {leaf['op']}, {leaf['outcome']}, patient {leaf['context']['patient'][0]}")
    screen.prove(
        (leaf["actor"], leaf["outcome"]) == (APPLICATION, "undecipherable") and leaf["context"]["patient"][0].startswith("h:"),
        "it names who tried and what became of it, and of the patient only a keyed hash",
    )
    screen.result(f"{report['size']:,} events and a receipt verified")


def forge(house: House, people: People, refusal: KeyclaveError, screen: Screen) -> None:
    """Put the blame for that attempt on somebody else, in a copy of the log, and have it found."""
    receipt = people.auditor.receipt(str(refusal.event))
    forged = house.folder / "forged-log"
    shutil.copytree(house.folder / "log", forged)
    bundle = next(
        path for path in sorted((forged / "tile" / "entries").rglob("*")) if path.is_file() and receipt.leaf in path.read_bytes()
    )
    data = bytearray(bundle.read_bytes())
    at = data.index(receipt.leaf) + receipt.leaf.index(APPLICATION.encode())
    data[at] ^= 1
    bundle.write_bytes(data)
    screen.say(
        f"one bit of {bundle.relative_to(house.folder)}: {APPLICATION} becomes {data[at : at + len(APPLICATION)].decode()}"
    )
    code, report = house.verify("log", str(forged), "--vkey-file", str(house.folder / "auditor" / KEYS))
    details = [fault["detail"] for fault in report["faults"]]
    screen.prove(code == 1 and not report["good"], "the forgery is found")
    for detail in details:
        screen.say(f"it is told: {detail}")
    screen.prove(any(f"entry {receipt.index} " in detail for detail in details), f"and named: it is entry {receipt.index}")
    screen.result(f"1 bit changed: found, at entry {receipt.index}")
