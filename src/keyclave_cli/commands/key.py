"""`keyclave key`: keys from creation to destruction."""

from __future__ import annotations

from typing import Any

import click

from keyclave_cli import output
from keyclave_cli.commands.key_moves import MOVES
from keyclave_cli.commands.key_view import show_key
from keyclave_cli.parameters import Decorator, Family, as_map
from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.session import Session

PURPOSES = ("encrypt", "sign", "mac", "decrypt", "agree", "encapsulate")


@click.group(cls=Family)
def key() -> None:
    """Create keys and lead them through their life.

    A key is named by its name or id. --dry-run says what a change would do, and does it not.
    """


for _command in MOVES:
    key.add_command(_command)

_described: list[Decorator] = [
    click.option(
        "--spec", default="aes-256", show_default=True, help="Kind and size of the key: aes-256, ecdsa-p256, rsa-4096, …"
    ),
    click.option("--purpose", type=click.Choice(PURPOSES), default="encrypt", show_default=True, help="The one thing it is for."),
    click.option("--owner", required=True, help="Who answers for it."),
    click.option("--environment", default="production", show_default=True, help="Where it is used."),
    click.option("--classification", default="ePHI", show_default=True, help="What it protects."),
    click.option("--tag", "-t", "tags", multiple=True, callback=as_map, metavar="NAME=VALUE", help="A tag. Repeatable."),
    click.option("--protect-days", type=click.IntRange(min=1), help="How long a version protects; with --process-days."),
    click.option("--process-days", type=click.IntRange(min=1), help="How long it opens what it protected."),
    click.option("--rotate-days", type=click.IntRange(min=1), help="When a new version is due."),
    click.option("--rotate-reason", help="Why that differs from the usual."),
    click.option(
        "--stale-ok", is_flag=True, help="Nodes that are cut off from the database may go on decrypting with it for a while."
    ),
    click.option("--inactive", is_flag=True, help="Leave it pre-active; `key activate` begins its use."),
]


def _describe(function: Any) -> Any:
    for option in reversed(_described):
        function = option(function)
    return function


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a creation as the client takes them."""
    fields = {name: given[name] for name in ("spec", "purpose", "owner", "environment", "classification", "tags")}
    return {**fields, **_periods(given), "activate": not given["inactive"], "stale_ok": given["stale_ok"]}


def _periods(given: dict[str, Any]) -> dict[str, Any]:
    protect, process = given["protect_days"], given["process_days"]
    if (protect is None) != (process is None):
        raise Stop("a cryptoperiod has two lengths", "give both --protect-days and --process-days", USAGE)
    periods: dict[str, Any] = {}
    if protect is not None:
        periods["cryptoperiod"] = {"protect_days": protect, "process_days": process}
    if given["rotate_days"] is not None:
        reason = {"reason": given["rotate_reason"]} if given["rotate_reason"] else {}
        periods["rotation"] = {"every_days": given["rotate_days"], **reason}
    elif given["rotate_reason"]:
        raise Stop("--rotate-reason stands without --rotate-days", "say how many days it is the reason for", USAGE)
    return periods


@key.command()
@click.argument("name")
@_describe
@click.option("--dry-run", is_flag=True, help="Check everything, change nothing.")
@click.pass_context
def create(ctx: click.Context, /, name: str, dry_run: bool, **given: Any) -> None:
    """Create a key.

    \b
    keyclave key create patient-records --owner cardiology -t system=ehr --rotate-days 90
    keyclave key create prescriptions --spec ecdsa-p384 --purpose sign --owner pharmacy
    """
    session = ctx.ensure_object(Session)
    fields = _fields(given)
    with session.client() as client:
        show_key(client.create_key(name, dry_run=dry_run, **fields), session, dry_run=dry_run, done="created")


@key.command(name="import")
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--hex", "in_hex", is_flag=True, help="FILE holds hexadecimal text.")
@_describe
@click.pass_context
def import_(ctx: click.Context, /, name: str, file: str, in_hex: bool, **given: Any) -> None:
    """Bring in a key that was made elsewhere.

    FILE (- for stdin) holds the raw bytes of a symmetric key, or a private key as PKCS #8, DER or PEM. It is wrapped
    on this machine to a one-time key of the server's, and confirmed by its key-check value. Destroy the file
    afterwards.
    """
    from keyclave_cli.material import read_material

    session = ctx.ensure_object(Session)
    fields = _fields(given)
    material = read_material(file, in_hex=in_hex)
    try:
        with session.client() as client:
            made = client.import_key(name, material, **fields)
    finally:
        material[:] = bytes(len(material))
    show_key(made, session, done="imported")


@key.command(name="list")
@click.option("--name", help="Only names that begin so.")
@click.option("--state", help="Only keys with a version in this state.")
@click.pass_context
def list_(ctx: click.Context, name: str | None, state: str | None) -> None:
    """List keys."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        found = list(client.list_keys(name=name, state=state))
    if session.json:
        output.write_json(found)
        return
    rows = []
    for one in found:
        primary = next((version for version in one.versions if version.version == one.primary), None)
        rows.append(
            (
                one.name,
                one.spec,
                one.purpose,
                one.primary,
                primary.state if primary else None,
                len(one.versions),
                one.owner,
                one.id,
            )
        )
    columns = ("Name", "Spec", "Purpose", "Primary", "State", "Versions", "Owner", "Id")
    output.write_table(columns, rows, empty="there are no such keys; custodians make one with `keyclave key create`")


@key.command()
@click.argument("name", metavar="KEY")
@click.pass_context
def show(ctx: click.Context, name: str) -> None:
    """Show a key and its versions."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        show_key(client.get_key(name), session)


@key.command(name="public-key")
@click.argument("name", metavar="KEY")
@click.option("--version", type=click.IntRange(min=1), help="Of this version; else of the primary one.")
@click.pass_context
def public_key(ctx: click.Context, name: str, version: int | None) -> None:
    """Print the public half of a key, as PEM."""
    session = ctx.ensure_object(Session)
    with session.client() as client:
        half = client.public_key(name, version)
    if session.json:
        output.write_json(half)
    else:
        output.say(half.public_key.rstrip("\n"))


@key.command()
@click.argument("name", metavar="KEY")
@click.option("--owner", help="Who answers for it.")
@click.option("--environment", help="Where it is used.")
@click.option("--classification", help="What it protects.")
@click.option("--tag", "-t", "tags", multiple=True, callback=as_map, metavar="NAME=VALUE", help="Set a tag. Repeatable.")
@click.option("--untag", multiple=True, metavar="NAME", help="Remove a tag. Repeatable.")
@click.option("--protect-days", type=click.IntRange(min=1), help="How long a version protects; with --process-days and --reason.")
@click.option("--process-days", type=click.IntRange(min=1), help="How long it opens what it protected.")
@click.option("--rotate-days", type=click.IntRange(min=1), help="When a new version is due.")
@click.option("--rotate-reason", help="Why that differs from the usual.")
@click.option(
    "--stale-ok/--no-stale-ok", default=None, help="Whether nodes that are cut off may decrypt; allowing it needs --reason."
)
@click.option("--reason", help="Why; it is recorded. A changed cryptoperiod needs one.")
@click.option("--if-match", type=int, metavar="REV", help="Only if the key is still at this revision.")
@click.option("--dry-run", is_flag=True, help="Check everything, change nothing.")
@click.pass_context
def update(
    ctx: click.Context, /, name: str, tags: dict[str, str], untag: tuple[str, ...], reason: str | None, if_match: int | None,
    dry_run: bool, **given: Any,
) -> None:  # fmt: skip
    """Change what is said of a key: owner, tags, periods. Its name, spec and purpose are for life."""
    session = ctx.ensure_object(Session)
    described = {
        field: given[field] for field in ("owner", "environment", "classification", "stale_ok") if given[field] is not None
    }
    changes: dict[str, Any] = {**described, **_periods(given)}
    if not changes and not tags and not untag:
        raise Stop("nothing to change was given", "see `keyclave key update --help` for what can be", USAGE)
    with session.client() as client:
        if tags or untag:
            # the server replaces tags as a whole: the revision makes sure that nobody else's are lost between reading and writing
            before = client.get_key(name)
            changes["tags"] = {tag: value for tag, value in {**before.tags, **tags}.items() if tag not in untag}
            if_match = before.rev if if_match is None else if_match
        if reason:
            changes["reason"] = reason
        show_key(client.update_key(name, if_match=if_match, dry_run=dry_run, **changes), session, dry_run=dry_run, done="updated")
