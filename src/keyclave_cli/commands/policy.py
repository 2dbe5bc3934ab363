"""`keyclave policy`: the rules of a tenant as files: read, judge, change."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import click

from keyclave_cli import output
from keyclave_cli.commands.policy_questions import COMMANDS
from keyclave_cli.parameters import Family
from keyclave_cli.policy_files import read_bundle, write_bundle
from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.session import Session

DIRECTORY = click.argument("directory", type=click.Path(file_okay=False, path_type=Path))


@click.group(cls=Family)
def policy() -> None:
    """Keep the policy as files, and see what a change would do.

    A bundle is a directory of Cedar files and a rules.toml. Changing the policy waits for the approval of another person.
    """


@policy.command()
@DIRECTORY
@click.option("--revision", type=click.IntRange(1), help="Another revision than the one in force.")
@click.option("--force", is_flag=True, help="Write over files that are there.")
@click.pass_context
def export(ctx: click.Context, directory: Path, revision: int | None, force: bool) -> None:
    """Write the policy into a directory, to be kept in version control."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        found = client.policy(revision)
    write_bundle(directory, found["files"], force=force)
    if session.json:
        output.write_json({name: value for name, value in found.items() if name not in ("files", "event")})
    else:
        output.say(f"wrote revision {found['revision']} into {directory}: {output.count_text(len(found['files']), 'file')}")


@policy.command()
@click.option("--revision", type=click.IntRange(1), help="Another revision than the one in force.")
@click.pass_context
def show(ctx: click.Context, revision: int | None) -> None:
    """Show the policy: who applied it when, and its text."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        found = client.policy(revision)
    if session.json:
        output.write_json(found)
        return
    output.write_fields(
        [
            ("Revision", found["revision"]), ("Digest", found["digest"]), ("Applied", found["applied_at"]),
            ("By", found["applied_by"]), ("Approval", found["approval"] or "none: it is the first"),
        ]
    )  # fmt: skip
    for name, text in sorted(found["files"].items()):
        output.say(f"\n==== {name}\n{text.rstrip()}")


@policy.command(name="list")
@click.pass_context
def list_(ctx: click.Context) -> None:
    """List every revision, newest first."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        found = list(client.policy_revisions())
    rows = [(one["revision"], one["applied_at"], one["applied_by"], one["approval"], one["digest"]) for one in found]
    columns = ("Revision", "Applied", "By", "Approval", "Digest")
    output.write_list(found, columns, rows, as_json=session.json, empty="there are none")


@policy.command()
@DIRECTORY
@click.pass_context
def validate(ctx: click.Context, directory: Path) -> None:
    """Find everything that is wrong with a directory; exit with 1 if anything is."""
    session = ctx.ensure_object(Session)
    files = read_bundle(directory)
    with session.client() as client:
        found = client.validate_policy(files)
    if session.json:
        output.write_json(found)
    else:
        for finding in found["findings"]:
            output.say(finding)
        if found["valid"]:
            output.say(f"valid: {output.count_text(found['policies'], 'policy', 'policies')}")
    if not found["valid"]:
        ctx.exit(1)


@policy.command()
@DIRECTORY
@click.pass_context
def diff(ctx: click.Context, directory: Path) -> None:
    """Show the difference of the texts between the policy in force and a directory."""
    session = ctx.ensure_object(Session)
    files = read_bundle(directory)
    with session.client() as client:
        now = client.policy()
    lines: list[str] = []
    for name in sorted(files.keys() | now["files"].keys()):
        old, new = (side.get(name, "").splitlines() for side in (now["files"], files))
        lines += difflib.unified_diff(old, new, f"revision {now['revision']}/{name}", f"{directory}/{name}", lineterm="")
    if session.json:
        output.write_json({"revision": now["revision"], "lines": lines})
    else:
        for line in lines:
            output.say(line)
        if not lines:
            output.note("  no difference")


@policy.command()
@DIRECTORY
@click.pass_context
def plan(ctx: click.Context, directory: Path) -> None:
    """Say what applying a directory would change: policies, rules, and who would gain or lose what."""
    session = ctx.ensure_object(Session)
    files = read_bundle(directory)
    with session.client() as client:
        found = client.plan_policy(files)
    if session.json:
        output.write_json(found)
        return
    _show_plan(found)
    if found["refused"]:
        output.note(f"  it would be refused: {found['refused']}")
    elif not found["same"]:
        output.note(f"  next: keyclave policy apply {directory} --expect {found['revision']} --request --reason WHY")


@policy.command()
@DIRECTORY
@click.pass_context
def drift(ctx: click.Context, directory: Path) -> None:
    """Say whether the policy in force is the one that a directory declares; exit with 1 if not."""
    session = ctx.ensure_object(Session)
    files = read_bundle(directory)
    with session.client() as client:
        found = client.plan_policy(files, reach=False)
        now = client.policy()
    if session.json:
        output.write_json({**found, "applied_at": now["applied_at"], "applied_by": now["applied_by"]})
    elif found["same"]:
        output.say(f"no drift: revision {found['revision']} is what {directory} says")
    else:
        output.say(
            f"revision {found['revision']}, applied {now['applied_at']} by {now['applied_by']}, is not what {directory} says"
        )
        _show_plan(found)
    if not found["same"]:
        ctx.exit(1)


@policy.command()
@DIRECTORY
@click.option("--expect", type=click.IntRange(0), help="The revision that was planned on; the one in force if left out.")
@click.option("--reason", default="", help="Why; approvers read it, and it is recorded.")
@click.option("--request", "ask", is_flag=True, help="Ask others for their approval, with exactly this bundle.")
@click.option(
    "--key",
    "key_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Your enrolled key (PEM), to sign the bundle.",
)
@click.option("--authenticator", metavar="AUT", help="The id under which the key is enrolled.")
@click.option(
    "--passphrase-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Of the key, if it has one."
)
@click.pass_context
def apply(
    ctx: click.Context, directory: Path, expect: int | None, reason: str, ask: bool, key_file: Path | None,
    authenticator: str | None, passphrase_file: Path | None,
) -> None:  # fmt: skip
    """Put a directory in force, or ask others to approve that.

    With --approval, what is sent must be what was approved, reason and all; a bundle that was signed is put in force by executing
    the approval.

    \b
    keyclave policy apply policy/ --request --reason "ward 3 opens"
    keyclave --approval apr_… policy apply policy/ --reason "ward 3 opens"
    """
    if ask and not reason:
        raise Stop("asking for approval needs a reason", "give --reason: it is the first thing that approvers read", USAGE)
    if (key_file is None) != (authenticator is None):
        raise Stop("--key and --authenticator go together", "see `keyclave authenticator list` for the id")
    session = ctx.ensure_object(Session)
    files = read_bundle(directory)
    with session.client() as client:
        expected = client.policy()["revision"] if expect is None else expect
        signing: dict[str, Any] = {}
        if key_file is not None:
            signing = {"key": _key(key_file, passphrase_file), "authenticator": authenticator}
        if ask:
            _asked(session, directory, client.request_policy(files, expected, reason, **signing), expected)
            return
        done = client.apply_policy(files, expected, reason=reason, **signing)
    output.write_done(done, f"revision {done['revision']} is in force, digest {done['digest']}", as_json=session.json)


def _asked(session: Session, directory: Path, made: dict[str, Any], expected: int) -> None:
    if session.json:
        output.write_json(made)
        return
    output.say(f"asked for approval {made['id']}")
    output.note(f"  next: once others have signed, `keyclave approval execute {made['id']}` puts {directory} in force")
    output.note(f"  it holds while revision {expected} is in force, and for exactly these files")


def _key(path: Path, passphrase_file: Path | None) -> Any:
    from keyclave_client.own_key import OwnKey

    passphrase = None if passphrase_file is None else passphrase_file.read_bytes().rstrip(b"\r\n")
    return OwnKey(path.read_bytes(), passphrase)


def _show_plan(found: dict[str, Any]) -> None:
    if found["same"]:
        output.say("nothing would change")
    for one in found["policies"]:
        what = "add" if one["before"] is None else "remove" if one["after"] is None else "change"
        output.say(f"{what} policy {one['id']}")
    for one in found["rules"]:
        output.say(f"rule {one['place']}: {_value(one['before'])} -> {_value(one['after'])}")
    for one in found["changes"]:
        output.say(
            f"{_names(one['principals'], one['principal_count'])} {one['effect']} {', '.join(one['operations'])}{_on(one)}"
        )
        if one["where"] != "always":
            output.say(f"    {one['where']}")
    if found["left_out"]:
        output.note(
            f"  {found['left_out']} pairs of a class of principals and an operation were not compared: there are too many"
        )


def _names(names: list[str], count: int) -> str:
    shown = ", ".join(names[:5])
    return shown if count <= 5 else f"{shown} and {count - 5} more"


def _on(change: dict[str, Any]) -> str:
    if not change["key_count"]:
        return ""
    return f" on {_names(change['keys'], change['key_count'])}"


def _value(value: Any) -> str:
    return "absent" if value is None else str(value)


for _command in COMMANDS:
    policy.add_command(_command)
