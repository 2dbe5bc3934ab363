"""Chapters eight to ten: a new key version, the move of every object to it, and the end of a credential."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from pathlib import Path

from demo.opening import APPLICATION, JOB, KEY, People
from demo.screen import Screen, many
from demo.sealing import INDEX, INDEX_CONTEXT, Object
from keyclave_client import Client, inspect_file
from keyclave_client.errors import KeyclaveError, Unauthenticated

PRELUDE, TAIL = 9, 24 + 32  # bytes before and after the wrapped key in an object's header: spec/local-envelope.md


def rotate(people: People, objects: list[Object], folder: Path, screen: Screen) -> None:
    """Give the key a new version. Nothing is lost: the old one opens what it protected, and protects nothing more."""
    before = people.operator.get_key(KEY)
    after = people.operator.move(KEY, "rotate", reason="the demonstration")
    screen.prove(
        (before.primary, after.primary) == (1, 2), "version 2 protects from now on; version 1 only opens what it protected"
    )
    dependents(people.operator, folder, screen)
    encryptor = people.application.encryptor(KEY)
    old = objects[0]
    opened = encryptor.decrypt(old.path.read_bytes(), old.record.context)
    screen.prove(hashlib.sha256(opened).hexdigest() == old.record.sha256, "what version 1 protected still opens")
    new = encryptor.inspect(encryptor.encrypt(b"a new note", old.record.context))
    screen.prove(new.version == after.primary, "what is encrypted now depends on version 2")
    screen.result("version 2 protects, version 1 opens")


def dependents(operator: Client, folder: Path, screen: Screen) -> Counter[int | None]:
    """Show which version each object depends on, as the objects say themselves, and return the count."""
    count = Counter(inspect_file(path).version for path in (folder / "sealed").iterdir())
    versions = operator.get_key(KEY).versions
    screen.table(
        ("Key version#", "State", "Objects that depend on it#"),
        [(version.version, version.state, count[version.version]) for version in versions],
    )
    return count


def rewrap(people: People, objects: list[Object], folder: Path, screen: Screen) -> None:
    """Move every object to version 2 by exchanging its wrapped key, and nothing else of it."""
    contexts = [(one.path, one.record.context) for one in objects] + [(folder / "sealed" / INDEX, INDEX_CONTEXT)]
    encryptor = people.job.encryptor(KEY)
    kept = exchanged = 0
    for path, context in screen.track(contexts, "rewrapping"):
        old, end = path.read_bytes(), inspect_file(path).header_size - TAIL
        encryptor.rewrap_file(path, context)
        new = path.read_bytes()
        kept += old[:PRELUDE] == new[:PRELUDE] and old[end:] == new[end:] and old != new
        exchanged += end - PRELUDE
    count = dependents(people.operator, folder, screen)
    screen.prove(count == {2: len(contexts)}, f"all {many(len(contexts), 'object')} depend on version 2, none on version 1")
    screen.prove(
        kept == len(contexts), f"only their wrapped keys were exchanged, {exchanged:,} bytes, by {JOB}, which cannot read them"
    )
    reader = people.application.encryptor(KEY)
    opened = [hashlib.sha256(reader.decrypt(one.path.read_bytes(), one.record.context)).hexdigest() for one in objects]
    screen.prove(opened == [one.record.sha256 for one in objects], "and every file still opens, byte for byte")
    screen.result(f"{many(len(contexts), 'object')} moved, {count[1]} left behind")


def revoke(people: People, objects: list[Object], screen: Screen) -> None:
    """Revoke the application's credential: its next request is refused."""
    encryptor = people.application.encryptor(KEY)
    before = encryptor.decrypt(objects[0].path.read_bytes(), objects[0].record.context)
    people.operator.revoke_credential(people.application_credential, reason="the demonstration")
    revoked = time.perf_counter()
    refusal: KeyclaveError | None = None
    try:
        encryptor.decrypt(objects[1].path.read_bytes(), objects[1].record.context)
    except KeyclaveError as error:
        refusal = error
    waited = (time.perf_counter() - revoked) * 1000
    screen.prove(len(before) == objects[0].record.size, f"{APPLICATION} reads a file")
    screen.prove(
        isinstance(refusal, Unauthenticated), f"its credential is revoked, and its next request is refused, {waited:.0f} ms later"
    )
    if refusal is not None:
        screen.say(f"it is told: {refusal}")
    screen.result("its next request is refused")
