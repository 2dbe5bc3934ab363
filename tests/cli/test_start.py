"""The start of the command line: nothing heavy is loaded for help, and the table of contents tells the truth."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from keyclave_cli.catalogue import BY_NAME
from keyclave_cli.program import cli
from tests.cli.transcript import Prompt

HEAVY = (
    "httpx",
    "rich",
    "cryptography",
    "ssl",
    "keyclave",
    "keyclave_client",
    "keyclave_verify",
    "importlib.metadata",
    "asyncio",
)


def _loaded_by(*arguments: str) -> set[str]:
    """Return the modules that a run of the command line leaves loaded."""
    program = f"import sys; from keyclave_cli.program import run; run({list(arguments)!r}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONPATH": _src()})
    assert "Usage:" in done.stdout
    return set(done.stderr.split())


def _src() -> str:
    return str(Path(__file__).resolve().parents[2] / "src")


HANDED_OVER = ("init", "serve", "migrate", "migrate-store")  # to the server's own program, help and all


@pytest.mark.parametrize(
    "arguments", [["--help"], *([name, "--help"] for name in BY_NAME if name not in HANDED_OVER)], ids=" ".join
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    assert _loaded_by(*arguments) & set(HEAVY) == set()


def test_root_help_loads_no_command() -> None:
    assert not [name for name in _loaded_by("--help") if name.startswith("keyclave_cli.commands.")]


@pytest.mark.parametrize("name", BY_NAME)
def test_the_catalogue_says_what_the_command_says(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    assert command.help is not None
    assert command.help.split("\n")[0] == BY_NAME[name].line


def test_help_names_every_command(prompt: Prompt) -> None:
    shown = prompt("--help").text
    assert all(f"  {name} " in shown for name in BY_NAME)


def _leaves(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        return [(path, command)]
    context = click.Context(command, info_name=path)
    found = []
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        found += _leaves(below, f"{path} {name}".strip())
    return found


LEAVES = dict(_leaves(cli, ""))


@pytest.mark.parametrize("path", LEAVES)
def test_every_command_is_explained_and_takes_json(path: str) -> None:
    command = LEAVES[path]
    assert command.help
    assert command.get_short_help_str(300).endswith("."), "its first line is a sentence"
    handed_over = path in (*HANDED_OVER, "completion")
    assert handed_over or any(parameter.name == "json" for parameter in command.params)
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.opts} is not explained"


def test_no_option_takes_a_token() -> None:
    options = {name for command in LEAVES.values() for parameter in command.params for name in parameter.opts}
    assert not options & {"--token", "--share", "--password", "--passphrase", "--secret"}


def test_the_shared_options_stand_before_or_behind(prompt: Prompt) -> None:
    before = prompt("--url", "https://127.0.0.1:1", "status")
    behind = prompt("status", "--url", "https://127.0.0.1:1")
    assert before == behind
    assert before.code == 3


def test_the_version_is_one_line(prompt: Prompt) -> None:
    done = prompt("--version")
    assert done.code == 0
    assert done.text.startswith("keyclave ")
    assert done.text.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "detail", "hint"),
    [
        ("--json nonsense", "No such command 'nonsense'.", "keyclave --help"),
        ("key --json", "No such option", "keyclave key --help"),
        ("--json key", "no command is named", "keyclave key --help"),
        ("--json", "Missing command.", "keyclave --help"),
        ("key list --json --nonsense", "No such option", "keyclave key list --help"),
        ("encrypt --json nothing --key k", "Path 'nothing' does not exist.", "keyclave encrypt --help"),
        ("--json audit events --limit none", "Invalid value for '--limit'", "keyclave audit events --help"),
        ("--json credential issue", "Missing argument 'PRINCIPAL'.", "keyclave credential issue --help"),
    ],
)
def test_a_wrong_command_line_is_json_where_that_is_asked_for(prompt: Prompt, line: str, detail: str, hint: str) -> None:
    done = prompt.line(f"keyclave {line}")
    assert (done.code, done.text) == (2, "")
    said = json.loads(done.err)["error"]
    assert said["code"] == "usage"
    assert detail in said["detail"] and f"`{hint}`" in said["hint"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_this_program(prompt: Prompt, shell: str) -> None:
    done = prompt("completion", shell)
    assert done.code == 0
    assert f"_KEYCLAVE_COMPLETE={shell}_complete" in done.text


def test_a_shell_is_offered_names_and_options(prompt: Prompt) -> None:
    def offered(words: str) -> list[str]:
        environment = {
            "_KEYCLAVE_COMPLETE": "bash_complete",
            "COMP_WORDS": f"keyclave {words}",
            "COMP_CWORD": str(words.count(" ") + 1),
        }
        return [line.partition(",")[2] for line in prompt(**environment).text.splitlines()]

    assert offered("de") == ["decrypt"]
    assert offered("key sch") == ["schedule-destruction"]
    assert "--share-file" in offered("unseal --")
    assert offered("credential issue x --role a") == ["auditor", "application"]


def test_an_interrupt_while_it_still_imports_is_answered_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    environment = {"PYTHONPATH": f"{tmp_path}:{_src()}"}
    done = subprocess.run([sys.executable, "-m", "keyclave_cli", "--help"], capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"\nstopped\n")


@pytest.mark.parametrize(
    ("words", "closed", "said"),
    [
        ("--help", ">&-", b"standard output is closed"),
        ("status --url https://127.0.0.1:1", ">&-", b"standard output is closed"),
        ("status --url https://127.0.0.1:1 --json", ">&-", b'{"error": {"code": "usage", "detail": "standard output is closed"'),
        ("encrypt - --key k", "<&-", b"standard input is closed"),
        ("decrypt - --key k", "<&-", b"standard input is closed"),
        ("encrypt - --key k", ">&-", b"standard output is closed"),
        ("encrypt - --key k", "<&- >&- 2>&-", b""),
        ("profile add ward --url https://127.0.0.1:1", "<&-", b"standard input is closed"),
    ],
)
def test_a_closed_stream_is_named(tmp_path: Path, words: str, closed: str, said: bytes) -> None:
    environment = {"PYTHONPATH": _src(), "KEYCLAVE_URL": "https://127.0.0.1:1", "KEYCLAVE_TOKEN": "kct_x"}
    command = f'"{sys.executable}" -m keyclave_cli {words} {closed}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, env={**environment, "HOME": str(tmp_path)}, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert said in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_terminal_of_another_alphabet_is_shown_what_it_cannot_show_in_numbers() -> None:
    environment = {"PYTHONPATH": _src(), "PYTHONIOENCODING": "ascii", "KEYCLAVE_PROFILE": "kéys"}
    done = subprocess.run(
        [sys.executable, "-m", "keyclave_cli", "key", "show", "schlüssel"], capture_output=True, env=environment
    )
    assert done.returncode in (1, 2, 3)
    assert b"Traceback" not in done.stderr
    assert done.stderr.isascii() and b"\\xe9" in done.stderr
