"""What README.md tells a newcomer to type does what it says."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.cli.transcript import Prompt
from tests.live import launch

ALIAS = "    alias keyclave='.venv/bin/keyclave --home .keyclave'\n"


def commands(readme: str) -> list[list[str]]:
    """Return the arguments of each command under the alias."""
    block = readme.partition(ALIAS)[2].partition("\n\n")[0]
    return [shlex.split(line, comments=True)[1:] for line in block.splitlines()]


@pytest.mark.requirement("P9")
def test_a_newcomer_encrypts_a_folder_and_verifies_the_record(prompt: Prompt, tmp_path: Path, repository: Path) -> None:
    typed = commands((repository / "README.md").read_text())
    assert len(typed) >= 6
    (prompt.folder / "letters").mkdir()
    (prompt.folder / "letters" / "smith.txt").write_text("Dear Mrs Smith")
    (tmp_path / "toy").mkdir()
    toy = launch(tmp_path / "toy", "--development", unseal=False)
    try:
        said = [prompt("--home", str(toy.home), *arguments) for arguments in typed]
    finally:
        toy.stop()
    assert [done.code for done in said] == [0] * len(said), "\n".join(done.err for done in said)
    assert (prompt.folder / "opened" / "smith.txt").read_text() == "Dear Mrs Smith"
    assert "unwrap" in said[-2].text and "The log is intact." in said[-1].text
