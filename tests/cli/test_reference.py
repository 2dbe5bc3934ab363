"""docs/cli.md is made from the commands, and is current."""

from __future__ import annotations

from pathlib import Path

from keyclave_cli.reference import page
from tests.cli.test_start import LEAVES


def test_the_page_is_current(repository: Path) -> None:
    assert (repository / "docs/cli.md").read_text() == page(), "run `python -m keyclave_cli.reference > docs/cli.md`"


def test_the_page_has_every_command() -> None:
    told = page()
    assert all(f"### `keyclave {path}`\n" in told for path in LEAVES)


def test_the_page_does_not_depend_on_where_it_is_made() -> None:
    assert str(Path.home()) not in page()
