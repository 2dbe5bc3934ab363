"""Chapters one to three: the records, the ceremony that makes a key server, and the people who may each do only their part."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from demo.house import House, read_once, write_private
from demo.records import FHIR, SAMPLE_PATIENTS, Record, unpack
from demo.screen import Screen, many, megabytes
from keyclave_client import Client
from keyclave_client.errors import KeyclaveError, Refused, Sealed

KEY = "patient-records"
APPLICATION, JOB = "records-app", "rewrap-job"


@dataclass(frozen=True)
class People:
    """Who takes part, each by a client with a credential of their own."""

    operator: Client
    auditor: Client
    application: Client
    job: Client
    application_credential: str  # its id, by which it is revoked


def lay_out(folder: Path, patients: int, screen: Screen) -> list[Record]:
    """Unpack the records, and say what they are."""
    records = list(unpack(folder / "records", patients))
    people = len({record.patient for record in records})
    size = sum(record.size for record in records)
    screen.say("Synthetic patients and public test images: nobody in these records exists. demo/PROVENANCE.md says more.")
    count = Counter(record.kind for record in records)
    rows = [
        (kind, count[kind], megabytes(sum(r.size for r in records if r.kind == kind)), _some(records, kind)) for kind in count
    ]
    screen.table(("Kind", "Files#", "Size#", "Patients"), rows)
    further = count[FHIR] - SAMPLE_PATIENTS
    if further > 0:
        screen.say(f"{many(further, 'variation')} among the patients: a history of the sample under another identity.")
    screen.prove(
        all(record.words for record in records), "every file holds words that betray its patient; they are looked for later"
    )
    screen.result(f"{many(len(records), 'file')} of {many(people, 'patient')}, {megabytes(size)}")
    return records


def _some(records: list[Record], kind: str) -> str:
    names = list(dict.fromkeys(record.person for record in records if record.kind == kind))
    return ", ".join(names[:3]) + (f", and {len(names) - 3} more" if len(names) > 3 else "")


def hold_ceremony(house: House, screen: Screen) -> dict[str, str]:
    """Make the server's home in a ceremony, hand out the shares, start the server sealed, and open it with two of three.

    Returns the first credentials, by role.
    """
    made = house.folder / "ceremony.json"
    house.keyclave(
        "init",
        "--home",
        str(house.home),
        "--threshold",
        "2",
        "--custodians",
        "3",
        "--people",
        "tokens",
        "--port",
        str(house.port),
        "--out-json",
        str(made),
    )
    house.keyclave("--home", str(house.home), "profile", "add", "--from-init", str(made))
    said = read_once(made)
    shares: list[str] = said["shares"]
    for number, share in enumerate(shares, 1):
        write_private(house.folder / "custodians" / f"share-{number}.txt", share + "\n")
        screen.say(f"custodian {number} takes home {share[:12]}…{share[-4:]}")
    kept = b"".join(path.read_bytes() for path in house.home.rglob("*") if path.is_file())
    screen.prove(
        len(set(shares)) == 3 and not said["development"] and not any(share.encode() in kept for share in shares),
        "what opens the root key is shared among three people; the server keeps no share",
    )
    house.start()
    client, waiting = house.client(), house.client(said["credentials"]["custodian"])
    screen.prove(client.status().sealed and _refused(Sealed, waiting), "the server starts sealed, and does nothing for anybody")
    one = client.unseal(shares[0])
    screen.prove(one.sealed and _refused(Sealed, waiting), "one share opens nothing")
    two = client.unseal(shares[2])
    screen.prove(not two.sealed and client.health() == "ok", "two of three shares open it")
    screen.result("3 custodians, any 2 open the server")
    return dict(said["credentials"])


def _refused(kind: type[KeyclaveError], custodian: Client) -> bool:
    """Tell whether making a key is refused in this way."""
    try:
        custodian.create_key("too-early", owner="nobody", environment="demo", classification="ephi")
    except kind:
        return True
    return False


def give_duties(house: House, tokens: dict[str, str], screen: Screen) -> People:
    """Have the custodian make the key and the operator let two programs use it, each for one thing."""
    custodian, operator = house.client(tokens["custodian"]), house.client(tokens["operator"])
    key = custodian.create_key(KEY, owner="medical records", environment="demo", classification="ephi")
    screen.say(f"the custodian makes {KEY}: {key.spec}, version {key.primary}")
    reading = operator.issue_credential(
        APPLICATION, "application", 3600,
        {"operations": ["data-key", "unwrap"], "keys": [KEY], "context": {"patient": ["*"], "purpose": ["treatment"]}},
    )  # fmt: skip
    rewrapping = operator.issue_credential(JOB, "application", 3600, {"operations": ["re-encrypt"], "keys": [KEY]})
    screen.say(f"the operator lets {APPLICATION} encrypt and decrypt for the purpose of treatment, and {JOB} rewrap")
    for who, client in (("custodian", custodian), ("operator", operator)):
        screen.prove(_cannot_use(client), f"the {who}, who manages the key, cannot use it")
    screen.result("who manages the key cannot use it")
    return People(
        operator=operator,
        auditor=house.client(tokens["auditor"]),
        application=house.client(reading.token),
        job=house.client(rewrapping.token),
        application_credential=reading.id,
    )


def _cannot_use(client: Client) -> bool:
    try:
        client.data_key(KEY)
    except Refused:
        return True
    return False
