"""`keyclave recovery`: codes for the day the passkey is lost."""

from __future__ import annotations

import click

from keyclave_cli import output
from keyclave_cli.new_files import new_file
from keyclave_cli.parameters import Family
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
    options = ctx.ensure_object(Session)
    with options.client() as client, new_file(save, "name a new one: codes are written once") as file:
        made = client.make_recovery_codes()
        if file is not None:
            file.write(("\n".join(made.codes) + "\n").encode())
    if save:
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
