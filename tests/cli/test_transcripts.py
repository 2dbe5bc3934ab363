"""Sessions written down in transcripts/: those under `local` need no server, those under `live` have one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.transcript import Prompt, matches, parse
from tests.live import Live, launch

FOLDER = Path(__file__).parent / "transcripts"
LOCAL = sorted((FOLDER / "local").glob("*.txt"))
LIVE = sorted((FOLDER / "live").glob("*.txt"))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server on which nobody has enrolled anything before the transcripts do."""
    server = launch(tmp_path_factory.mktemp("written-down"))
    yield server
    server.stop()


@pytest.mark.parametrize("transcript", LOCAL, ids=lambda path: path.stem)
def test_local(transcript: Path, prompt: Prompt) -> None:
    prompt.follow(transcript)


@pytest.mark.requirement("R11", "R14", "R5")
@pytest.mark.parametrize("transcript", LIVE, ids=lambda path: path.stem)
def test_live(transcript: Path, people: Prompt) -> None:
    people.follow(transcript)


def test_there_are_transcripts_of_both_kinds() -> None:
    assert LOCAL
    assert LIVE
    assert all(parse(path.read_text()) for path in (*LOCAL, *LIVE))


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        (["a  b"], "a b\n", True),
        (["a …"], "a 17 b\n", True),
        (["a …"], "b 17\n", False),
        (["…", "z"], "x\ny\nz\n", True),
        (["…", "z"], "z\nx\n", False),
        ([], "", True),
        ([], "x\n", False),
        (["a."], "ab\n", False),
    ],
)
def test_the_runner_tells_apart(expected: list[str], actual: str, same: bool) -> None:
    assert matches(expected, actual) is same
