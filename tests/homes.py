"""Homes for tests: the ceremony is held once in each test process for each way to wish it, and what it made is copied for each test.

A copy has the shares, tokens and certificates of the ceremony that it is a copy of; whoever needs an installation that is another one
holds a ceremony of their own. Where `--store postgresql` was said, a copy has a database of its own, too.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from keyclave.app import ceremony
from keyclave.app.config import StoreSection

if TYPE_CHECKING:
    from tests.postgres import Database

STORE = (
    "KEYCLAVE_TEST_STORE"  # of the environment: "postgresql" lets every server and desk keep everything in a database of its own
)
Made = TypeVar("Made")


def on_postgresql() -> bool:
    """Tell whether servers and desks keep everything in PostgreSQL."""
    return os.environ.get(STORE) == "postgresql"


@dataclass(frozen=True)
class Held(Generic[Made]):
    """A home as the ceremony left it, never served; `template` is the database that it named, never opened since."""

    home: Path
    made: Made
    template: str
    url: str

    @contextmanager
    def copied(self, home: Path) -> Iterator[Database | None]:
        """Copy it to `home`, and lend the copy of its database, if it has one; files of settings then name the copy."""
        shutil.copytree(self.home, home)
        if not self.template:
            yield None
            return
        from tests.postgres import new_database

        with new_database(template=self.template) as database:
            replace_in_settings(home, self.url, database.url())
            yield database


def replace_in_settings(home: Path, old: str, new: str) -> None:
    """Write something else in the files that people read, wherever `old` stands."""
    for path in (home / "keyclave.toml", *(home / "profiles").glob("*.json")):
        if path.exists():
            path.write_text(path.read_text().replace(old, new))


_KEPT = ExitStack()  # folders and databases of the ceremonies, until the process ends


def hold_once(hold: Callable[[Path, str], Made], *, postgresql: bool | None = None) -> Held[Made]:
    """Hold a ceremony: `hold` gets the home and the address of its database, empty without one (None: as `--store` says)."""
    folder = Path(_KEPT.enter_context(tempfile.TemporaryDirectory(prefix="keyclave-ceremony-")))
    home, template, url = folder / "home", "", ""
    if on_postgresql() if postgresql is None else postgresql:
        from tests.postgres import new_database

        database = _KEPT.enter_context(new_database())
        template, url = database.name, database.url()
    return Held(home, hold(home, url), template, url)


@cache
def held(wishes: ceremony.Wishes, *, concluded: bool = False) -> Held[ceremony.Made]:
    """Return the ceremony of these wishes, in this process; `concluded` as one that is served from its settings."""

    def hold(home: Path, url: str) -> ceremony.Made:
        wished = replace(wishes, store=section_of(url))
        made = ceremony.hold(home, wished)[0]
        if concluded:
            ceremony.conclude(home, wished, made)
        return made

    return hold_once(hold)


def section_of(url: str, cluster: str = "") -> StoreSection:
    """Return what the configuration says of a database at `url`; nothing for the home's own file."""
    return StoreSection(url=url, cluster=cluster) if url else StoreSection()


@contextmanager
def home_of(
    folder: Path, wishes: ceremony.Wishes, url: str = ""
) -> Iterator[tuple[Path, ceremony.Made, StoreSection, Database | None]]:
    """Lend a home below `folder`, what its ceremony handed over, where it keeps everything, and the database if that is one.

    `url` is of a database for this home alone, which is not lent: then the ceremony is its own, too.
    """
    home = folder / "home"
    if url:
        made = ceremony.hold(home, replace(wishes, store=section_of(url)))[0]
        yield home, made, section_of(url, made.cluster), None
        return
    found = held(wishes)
    with found.copied(home) as database:
        section = section_of("" if database is None else database.url(), found.made.cluster)
        yield home, msgspec.structs.replace(found.made), section, database
