"""`keyclave recovery`: codes for the day the passkey is lost."""

from __future__ import annotations

import os

import click

from keyclave_cli import output
from keyclave_cli.parameters import Family
from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.session import Session


@click.group(cls=Family)
def recovery() -> None:
    """Make recovery codes, and see how many are left.

    A code opens the enrolment of a new passkey at /ui/login, once, and nothing else. That passkey counts as level 1, or as level
    2 where the password is given with the code; a new invitation lets you enrol one that counts in full.
    """


@recovery.command()
@click.option("--save", type=click.Path(dir_okay=False), help="Write the codes to this new file (0600) instead of showing them.")
@click.pass_context
def codes(ctx: click.Context, save: str | None) -> None:
    """Make ten new codes; they are seen once, and an older set opens nothing any more."""
    if save and os.path.lexists(save):
        raise Stop(f"{save}: there is a file already", "name a new one: codes are written once", USAGE)
    options = ctx.ensure_object(Session)
    with options.client() as client:
        made = client.make_recovery_codes()
    if save:
        descriptor = os.open(save, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write("\n".join(made.codes) + "\n")
        output.note(f"  wrote {len(made.codes)} codes to {save}; print them, lock them away, and delete the file")
    elif options.json:
        output.write_json(made)
    else:
        for code in made.codes:
            output.say(code)
        output.note("  next: print them and lock them away; they are not shown again")


@recovery.command()
@click.pass_context
def left(ctx: click.Context) -> None:
    """Say how many codes are left."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        found = client.list_authenticators()
    if options.json:
        output.write_json({"recovery_codes": found.recovery_codes})
    else:
        output.say(f"{output.count_text(found.recovery_codes, 'recovery code')} left")
