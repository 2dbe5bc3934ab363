"""The demonstration from beginning to end: what happens, in which order, on whose behalf."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo import changing, opening, proving, sealing
from demo.beginning import undisturbed
from demo.house import House
from demo.next_steps import where_next
from demo.screen import Screen, Unproven
from keyclave_client.errors import KeyclaveError


def tell(patients: int, keep: Path | None, port: int) -> int:
    """Do the main job in a folder of its own; return 0 only if every claim held."""
    screen = Screen()
    if keep is not None:
        try:
            keep.mkdir(mode=0o700, parents=True, exist_ok=True)
            full = any(keep.iterdir())
        except OSError as error:
            screen.fail("Not begun", f"{keep}: {error.strerror}", "Name a new folder in one that you may write to.")
            return 2
        if full:
            screen.fail(
                "Not begun", f"{keep} is not empty", "Name a new folder: what is there may hold keys, and is never touched."
            )
            return 2
    with _folder(keep) as folder, House(folder, port, screen) as house:
        try:
            _play(house, patients, screen)
        except Unproven as claim:
            screen.fail("NOT PROVEN", str(claim), house.said())
            return 1
        except (KeyclaveError, RuntimeError, OSError, ValueError) as error:
            screen.fail("The demonstration broke off", f"{type(error).__name__}: {error}", house.said())
            return 1
    screen.summary(where_next(keep))
    return 0


def _play(house: House, patients: int, screen: Screen) -> None:
    folder = house.folder
    with screen.chapter("The records"):
        records = opening.lay_out(folder, patients, screen)
    with screen.chapter("The ceremony"):
        tokens = opening.hold_ceremony(house, screen)
        proving.keep_trust(house, screen)
    with screen.chapter("Everyone their part"):
        people = opening.give_duties(house, tokens, screen)
    with screen.chapter("Encrypt the folder"):
        objects = sealing.seal(people, records, folder, screen)
    with screen.chapter("Look for anything readable"):
        sealing.search(objects, screen)
    with screen.chapter("Decrypt and compare"):
        sealing.restore(people.application, objects, folder, screen)
    with screen.chapter("Try what must not work"):
        refusal = sealing.refuse(people.application, people.job, objects, folder, screen)
    with screen.chapter("Rotate the key"):
        changing.rotate(people, objects, folder, screen)
    with screen.chapter("Rewrap every object"):
        changing.rewrap(people, objects, folder, screen)
    with screen.chapter("Revoke a credential"):
        changing.revoke(people, objects, screen)
    with screen.chapter("Search the server's files"):
        proving.search_database(house, objects, screen)
    with screen.chapter("Check the record, offline"):
        proving.check_record(house, people, refusal, screen)
    with screen.chapter("Forge the record"):
        proving.forge(house, people, refusal, screen)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Give the folder to work in: the one to keep, or one that goes again."""
    if keep is not None:
        yield keep.resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="keyclave-demo-"))
    try:
        yield folder
    finally:
        with undisturbed():
            shutil.rmtree(folder)
