"""`keyclave inspect`: what encrypted files say about themselves, without key or server."""

from __future__ import annotations

from collections import Counter

import click

from keyclave_cli import output
from keyclave_cli.parameters import LocalCommand
from keyclave_cli.problems import FAILED, describe, show
from keyclave_cli.session import Session


@click.command(cls=LocalCommand)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True))
@click.option("--summary", is_flag=True, help="Count the files of each key version instead of listing them.")
@click.pass_context
def inspect(ctx: click.Context, paths: tuple[str, ...], summary: bool) -> None:
    """Show which key version files depend on, offline.

    It reads headers only, and needs neither server nor credential. What a header says is proven only by decrypting:
    use it to sort, count and plan. In folders, files that are not encrypted are left alone.
    """
    from keyclave_cli.files.plan import find
    from keyclave_client import Inspection, inspect_file
    from keyclave_client.errors import Malformed

    session = ctx.ensure_object(Session)
    seen: list[tuple[str, Inspection]] = []
    failed: list[tuple[str, OSError | Malformed]] = []
    unreadable: list[tuple[str, OSError]] = []
    for found in find(paths, [], unreadable):
        try:
            seen.append((found.path, inspect_file(found.path)))
        except (Malformed, OSError) as error:
            if found.explicit or not isinstance(error, Malformed):
                failed.append((found.path, error))
    failed += unreadable
    for path, fault in failed:
        problem = describe(fault)
        if problem is None:
            raise fault
        problem.detail = problem.detail if path in problem.detail else f"{path}: {problem.detail}"
        show(problem, as_json=session.json)
    versions = Counter((said.key, said.version) for _, said in seen)
    counted = [{"key": key, "version": version, "files": count} for (key, version), count in sorted(versions.items(), key=str)]
    if session.json:
        output.write_json({"versions": counted} if summary else {
            "files": [{"path": path, **output.plain(said)} for path, said in seen], "versions": counted,
        })  # fmt: skip
    elif summary:
        output.write_table(
            ("Key", "Version", "Files"), [tuple(row.values()) for row in counted], empty="nothing here is encrypted"
        )
    else:
        rows = [(path, said.key, said.version, said.kind, said.size, said.plaintext_size) for path, said in seen]
        output.write_table(("Path", "Key", "Version", "Kind", "Bytes", "Plaintext"), rows, empty="nothing here is encrypted")
    if failed:
        ctx.exit(FAILED)
