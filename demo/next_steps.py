"""Where to go after the demonstration: commands that work as they stand."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from demo.opening import KEY
from demo.sealing import INDEX, INDEX_CONTEXT

Step = tuple[str, list[str]]


def where_next(keep: Path | None) -> list[Step]:
    """Return what a curious person does next, each step with its commands."""
    return _after_nothing_was_kept() if keep is None else _in_the_folder(shlex.quote(str(keep)))


def _after_nothing_was_kept() -> list[Step]:
    return [
        (
            "All of it was in a temporary folder, which is gone. To keep it:",
            ['make demo ARGS="--keep .keyclave-demo"'],
        ),
        ("A development server for your own experiments:", ["make serve"]),
        ("Why it holds:", ["docs/philosophy.md  docs/life-of-a-request.md  docs/threat-model.md"]),
    ]


def _in_the_folder(folder: str) -> list[Step]:
    commands = shlex.quote(str(Path(sys.executable).parent))
    shares = " ".join(f"--share-file {folder}/custodians/share-{number}.txt" for number in (1, 3))
    context = " ".join(f"-c {name}={value}" for name, value in INDEX_CONTEXT.items())
    issue = f"credential issue you --ttl 1h -o unwrap -k {KEY} -c purpose=treatment --save-profile you"
    return [
        (
            "Serve it again, and open it with two shares:",
            [
                f"export KEYCLAVE_HOME={folder}/home PATH={commands}:$PATH",
                f"keyclave serve >>{folder}/server.log 2>&1 &",
                f"keyclave --profile operator unseal {shares}",
            ],
        ),
        (
            "Read the index of the records, with a credential of your own:",
            [
                f"keyclave --profile operator {issue}",
                f"keyclave --profile you decrypt {folder}/sealed/{INDEX} -k {KEY} {context} --out {folder}/opened",
            ],
        ),
        (
            "See what depends on which version, and what is on record about it:",
            [f"keyclave inspect {folder}/sealed --summary", "keyclave --profile auditor audit events --limit 20"],
        ),
    ]
