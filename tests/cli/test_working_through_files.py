"""Plans and crews: which files, where to, and what happens when some of them fail."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from keyclave_cli.files.folders import Folders
from keyclave_cli.files.plan import Item, Plan, plan
from keyclave_cli.files.progress import Bars
from keyclave_cli.files.report import GONE, report
from keyclave_cli.files.running import Crew, Fate, Outcome, Progress
from keyclave_cli.problems import Stop
from keyclave_client.errors import Sealed, Undecipherable
from tests.cli.transcript import Prompt

QUIET = Bars("", 0, 0, quiet=True)


def _plan(*paths: str, out: str | None = None) -> Plan:
    return plan(paths, out, lambda path, _explicit: os.path.basename(path) + ".kc")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """t/a, t/b/c, a link to a file, a link to a folder, and a pipe."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t/b").mkdir(parents=True)
    (tmp_path / "t/a").write_text("a")
    (tmp_path / "t/b/c").write_text("cc")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("s")
    (tmp_path / "t/to-file").symlink_to("../outside/secret")
    (tmp_path / "t/to-folder").symlink_to("../outside")
    os.mkfifo(tmp_path / "t/pipe")
    return tmp_path


def test_results_land_beside_or_mirrored(tree: Path) -> None:
    assert _plan("t").items == [Item("t/a", "t/a.kc", 1), Item("t/b/c", "t/b/c.kc", 2)]
    assert _plan("t", out="o").items == [Item("t/a", "o/a.kc", 1), Item("t/b/c", "o/b/c.kc", 2)]
    assert _plan("t/b/c", out="o").items == [Item("t/b/c", "o/c.kc", 2)]


def test_links_and_pipes_are_left_aside(tree: Path) -> None:
    why = {"t/to-file": "symbolic link", "t/to-folder": "symbolic link", "t/pipe": "not a regular file"}
    assert dict(_plan("t").aside) == why
    for path in why:
        with pytest.raises(Stop, match=r"is a symbolic link|not a regular file"):
            _plan(path)


def test_two_inputs_do_not_become_one_result(tree: Path) -> None:
    (tree / "u").mkdir()
    (tree / "u/a").write_text("other")
    with pytest.raises(Stop, match=r"t/a and u/a would both become o/a\.kc"):
        _plan("t", "u", out="o")
    assert len(_plan("t", "u").items) == 3


def test_folders_made_for_results_are_private(tmp_path: Path) -> None:
    folders = Folders()
    folders.make(str(tmp_path / "a/b"))
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")] == [0o700, 0o700]
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        folders.make(str(tmp_path / "file/under"))


def test_folders_go_that_nothing_was_put_into_and_were_not_there_before(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    folders = Folders()
    for name in ("before/a", "b/c/d", "b/full"):
        folders.make(str(tmp_path / name))
    (tmp_path / "b/full/result").write_text("")
    folders.drop_empty()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["b", "b/full", "b/full/result", "before"]


ITEMS = [Item(str(number), f"{number}.kc", 1) for number in range(20)]


def test_one_failure_does_not_stop_the_rest() -> None:
    def work(item: Item, _progress: Progress) -> tuple[Fate, str | None]:
        if item.source == "3":
            raise Undecipherable
        return Fate.DONE, None

    outcomes = Crew(work, 4, GONE, QUIET).run(ITEMS)
    assert [outcome.item for outcome in outcomes] == ITEMS
    assert [outcome.item.source for outcome in outcomes if outcome.fate is not Fate.DONE] == ["3"]


def test_a_server_that_is_gone_stops_the_run() -> None:
    def work(item: Item, _progress: Progress) -> tuple[Fate, str | None]:
        if item.source == "5":
            raise Sealed("sealed")
        return Fate.DONE, None

    outcomes = Crew(work, 1, GONE, QUIET).run(ITEMS)
    fates = [outcome.fate for outcome in outcomes]
    assert fates == [Fate.DONE] * 5 + [Fate.FAILED] + [Fate.NOT_TRIED] * 14


def test_a_mistake_in_the_program_is_not_hidden() -> None:
    def work(_item: Item, _progress: Progress) -> tuple[Fate, str | None]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Crew(work, 4, GONE, QUIET).run(ITEMS)


def test_an_interrupt_leaves_the_files_in_the_middle_and_is_raised() -> None:
    started = threading.Event()
    left = []

    def work(item: Item, progress: Progress) -> tuple[Fate, str | None]:
        started.set()
        try:
            while True:
                progress(0)
        except BaseException:
            left.append(item)
            raise

    def interrupt() -> None:
        started.wait(30)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        Crew(work, 2, GONE, QUIET).run(ITEMS)
    assert 1 <= len(left) <= 2


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, 0), (Undecipherable(), 1), (Sealed("sealed"), 3), (Stop("x", "y"), 1), (FileNotFoundError(2, "x", "f"), 1)],
)
def test_the_exit_code_says_what_failed(prompt: Prompt, error: Exception | None, code: int) -> None:
    def work(_item: Item, _progress: Progress) -> tuple[Fate, str | None]:
        if error is not None:
            raise error
        return Fate.DONE, None

    outcomes = Crew(work, 1, GONE, QUIET).run(ITEMS[:2])
    assert report(outcomes, [], "done", 0.0, as_json=False) == code


def test_names_in_reports_cannot_command_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    wicked = Item("\x1b]0;owned\x07\udcff", "x", 1)
    outcome = Outcome(wicked, Fate.FAILED)
    crew = Crew(lambda _item, _progress: (_ for _ in ()).throw(Undecipherable()), 1, GONE, QUIET)
    report([*crew.run([wicked]), outcome], [("\x1b[2J", "x")], "done", 0.0, as_json=False)
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err
    assert "\\x1b]0;owned\\x07" in told.err
