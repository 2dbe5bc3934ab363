"""The page docs/cli.md, made from the command tree: what it says is what the commands say."""

from __future__ import annotations

import inspect
import sys

import click

from keyclave_cli.catalogue import SECTIONS
from keyclave_cli.program import cli

_HEAD = """\
# The command line

`keyclave` speaks to a server, encrypts files on this machine, and verifies the record. This page is made from the commands
themselves: `python -m keyclave_cli.reference > docs/cli.md`; a test keeps it current.

## What all commands share

**Which server, and as whom.** In this order: the options `--url`, `--token-file`, `--ca-file`; the profile that `--profile`
names; the variables `KEYCLAVE_URL`, `KEYCLAVE_TOKEN_FILE`, `KEYCLAVE_CA_FILE`; the profile in use (`KEYCLAVE_PROFILE`, or
`keyclave profile use`). A profile lends its credential and CA to its own server only. No option takes a token: other
processes and the shell's history would see it. `KEYCLAVE_TOKEN` is accepted where a file is impossible, and `keyclave doctor`
warns of it. These options stand before or behind the command's name.

**Profiles** are JSON files that only their owner reads, in `<home>/profiles/` of a local server (`--home`, `KEYCLAVE_HOME`)
or in `~/.config/keyclave/profiles/`:

    {"url": "https://kms.hospital.example:8443", "ca_file": "ca.pem", "token_file": "operator.token"}

**Output** is a table at a terminal, tab-separated lines in a pipe, and JSON with `--json`. Results go to stdout, everything
else to stderr; errors end with what to do next, and with `--json` are `{"error": {"code", "detail", "hint", "event"}}`.

**Exit codes**

| code | meaning |
|--:|---|
| 0 | it is done |
| 1 | it was refused or failed |
| 2 | the command line is wrong |
| 3 | no server that answers: unreachable, unavailable or sealed |
| 130 | interrupted; nothing is left half done |
"""


def page() -> str:
    """Return the page."""
    parts = [_HEAD, "## Options of every command\n", _options(cli)]
    context = click.Context(cli, info_name="keyclave")
    for title, entries in SECTIONS.items():
        parts.append(f"## {title}\n")
        for entry in entries:
            command = cli.get_command(context, entry.name)
            if command is not None:
                parts.extend(_describe(command, f"keyclave {entry.name}"))
    return "\n".join(parts).rstrip() + "\n"


def _describe(command: click.Command, path: str) -> list[str]:
    parts = [f"### `{path}`\n"]
    parts += [_text(command)] if isinstance(command, click.Group) else [_usage(command, path), _text(command), _options(command)]
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None:
                parts.extend(_describe(below, f"{path} {name}"))
    return [part for part in parts if part]


def _text(command: click.Command) -> str:
    """Return the help; blocks that keep their lines (marked with a backspace, as click does) become code."""
    paragraphs = []
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b\n"):
            paragraphs.append("\n".join("    " + line for line in paragraph[2:].split("\n")))
        elif paragraph.strip():
            paragraphs.append(" ".join(paragraph.split()))
    return "\n\n".join(paragraphs) + "\n"


def _usage(command: click.Command, path: str) -> str:
    context = click.Context(command, info_name=path)
    return f"    {path} {' '.join(command.collect_usage_pieces(context))}\n"


def _options(command: click.Command) -> str:
    context = click.Context(command, info_name="keyclave")
    named = [parameter for parameter in command.params if parameter.name not in ("json", "arguments")]
    rows = [record for parameter in named if (record := parameter.get_help_record(context)) is not None]
    if not rows:
        return ""
    lines = [f"| `{names.replace('|', chr(92) + '|')}` | {text.replace('|', chr(92) + '|')} |" for names, text in rows]
    return "\n".join(["| option | |", "|---|---|", *lines]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
