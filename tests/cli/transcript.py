"""Runs transcripts: sessions at a prompt, written down with what must come out.

    # a comment
    $ keyclave status                a command; `keyclave` runs in this process, everything else in a shell
    State  open                      a line of stdout; … stands for anything within a line
    …                                a line that is only … stands for any number of lines
    ! keyclave: no such key          a line of stderr
    = 1                              the exit code, if it is not 0

`< FILE`, `> FILE`, `"$(cat FILE)"` and `NAME=VALUE` before a command work as in a shell. Relative paths are under the session's own folder.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from keyclave_cli.program import run

ANYTHING = "…"


@dataclass
class Step:
    """One command and what must come of it."""

    line: int
    command: str
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    code: int = 0


@dataclass
class Done:
    """What came of a command."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Return stdout as text."""
        return self.out.decode()


def parse(text: str) -> list[Step]:
    """Return the steps of a transcript."""
    steps: list[Step] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.rstrip()
        if line.startswith("$ "):
            steps.append(Step(number, line[2:]))
        elif line.startswith("#") or not (line or steps):
            continue
        elif line.startswith("! "):
            steps[-1].err.append(line[2:])
        elif line.startswith("= "):
            steps[-1].code = int(line[2:])
        elif line:
            steps[-1].out.append(line)
    return steps


def matches(expected: list[str], actual: str) -> bool:
    """Tell whether text is as expected; blank lines and spaces at line ends do not count."""
    lines = [line.strip() for line in actual.splitlines() if line.strip()]
    pattern = "".join(r"(?:.*\n)*" if line == ANYTHING else _line(line) + r"\n" for line in expected)
    return re.fullmatch(pattern, "".join(line + "\n" for line in lines)) is not None


def _line(line: str) -> str:
    return ".*".join(re.escape(re.sub(r"[ \t]+", " ", part)).replace(r"\ ", r"[ \t]+") for part in line.split(ANYTHING))


@contextmanager
def _streams(given: bytes) -> Iterator[tuple[io.BytesIO, io.BytesIO]]:
    out, err = io.BytesIO(), io.BytesIO()
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = io.TextIOWrapper(io.BytesIO(given), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(out, encoding="utf-8", write_through=True)
    sys.stderr = io.TextIOWrapper(err, encoding="utf-8", write_through=True)
    try:
        yield out, err
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            stream.detach()
        sys.stdin, sys.stdout, sys.stderr = before


class Prompt:
    """Somebody at a prompt in a folder of their own, with a configuration of their own."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._patch = patch
        for name in list(os.environ):
            if name.startswith("KEYCLAVE_"):
                patch.delenv(name)
        patch.setenv("XDG_CONFIG_HOME", str(folder / ".config"))
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2] / "src"))
        patch.setenv("COLUMNS", "100")
        patch.setenv("NO_COLOR", "1")
        patch.chdir(folder)

    def __call__(self, *arguments: str, given: bytes = b"", **environment: str) -> Done:
        """Run `keyclave` with these arguments."""
        with self._patch.context() as patch, _streams(given) as (out, err):
            for name, value in environment.items():
                patch.setenv(name, value)
            try:
                code = run(arguments)
            except SystemExit as ended:  # what click does after completing for a shell
                code = int(ended.code or 0)
        return Done(code, out.getvalue(), err.getvalue().decode())

    def line(self, command: str) -> Done:
        """Run one command line of a transcript."""
        words = shlex.split(command)
        environment = {}
        while words and re.match(r"[A-Z_]+=", words[0]):
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
        if not words or words[0] != "keyclave":
            done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
            return Done(done.returncode, done.stdout, done.stderr.decode())
        words = [re.sub(r"\$\(cat (\S+)\)", lambda found: Path(found[1]).read_text().strip(), word) for word in words]
        given, target = b"", None
        while len(words) > 2 and words[-2] in ("<", ">"):
            if words[-2] == "<":
                given = Path(words[-1]).read_bytes()
            else:
                target = Path(words[-1])
            words = words[:-2]
        done = self(*words[1:], given=given, **environment)
        if target is not None:
            target.write_bytes(done.out)
            done.out = b""
        return done

    def follow(self, transcript: Path) -> None:
        """Run a transcript; the first step that differs fails with both sides shown."""
        for step in parse(transcript.read_text()):
            done = self.line(step.command)
            told = f"{transcript.name}:{step.line}: $ {step.command}\nexit {done.code}\n{done.out.decode()}{done.err}"
            assert done.code == step.code, f"the exit code is not {step.code}\n{told}"
            assert matches(step.out, done.out.decode()), "stdout is not\n" + "\n".join(step.out) + f"\n--- but ---\n{told}"
            assert matches(step.err, done.err), "stderr is not\n" + "\n".join(step.err) + f"\n--- but ---\n{told}"
