"""`keyclave who-can`: for a review of rights."""

from __future__ import annotations

from typing import Any

import click

from keyclave_cli import output
from keyclave_cli.parameters import RemoteCommand
from keyclave_cli.session import Session


@click.command(name="who-can", cls=RemoteCommand)
@click.argument("arguments", nargs=-1, required=True, metavar="[KEY] OPERATION")
@click.pass_context
def who_can(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Show who may do an operation on a key, and by what.

    Whoever could after taking a role on for a while is listed apart, as "could"; whoever is kept from it by what
    they did on the key before, as "barred".

    \b
    keyclave who-can patient-records decrypt
    keyclave who-can policy-apply
    """
    if len(arguments) > 2:
        raise click.UsageError("give a key and an operation, or an operation alone", ctx)
    session = ctx.ensure_object(Session)
    key, operation = ("", arguments[0]) if len(arguments) == 1 else arguments
    with session.client() as client:
        found = client.who_can(operation, key)
    if session.json:
        output.write_json(found)
        return
    rows = [_row("can", one) for one in found["can"]] + [_row("could", one) for one in found["could"]]
    rows += [_barred(one) for one in found["barred"]]
    output.write_table(("", "Principal", "Duty", "By", "When", "Context", "Until"), rows, empty="nobody")
    if found["sealed"]:
        output.note(
            f"  {output.count_text(found['sealed'], 'person', 'people')} more could break the glass; their names are sealed"
        )
    approval = found["approval"]
    if approval is not None:
        output.note(f"  it waits for {approval['count']} approvers of {', '.join(approval['roles'])}")


def _row(how: str, one: dict[str, Any]) -> tuple[object, ...]:
    context = " or ".join(", ".join(f"{name}={'|'.join(values)}" for name, values in each.items()) for each in one["context"])
    return how, one["principal"], one["duty"], ", ".join(one["by"]), one["when"], context or None, one["until"]


def _barred(one: dict[str, Any]) -> tuple[object, ...]:
    return "barred", one["principal"], None, one["why"], None, None, None
