"""`keyclave break-glass`, `review` and `alarm`: emergency use, who is told, and the judgement afterwards."""

from __future__ import annotations

import sys
from typing import IO

import click

from keyclave_cli import output
from keyclave_cli.commands.elevation import show_running
from keyclave_cli.parameters import Family, RemoteCommand
from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.session import Session

_LONGEST = 4096


@click.command(name="break-glass", cls=RemoteCommand)
@click.option("--reason", required=True, help="What has happened; it is recorded. Name no patient here.")
@click.option(
    "--reference-file",
    type=click.File("r", lazy=False),
    help="File with the patient or encounter (- for stdin); else it is asked for.",
)
@click.option("--no-reference", is_flag=True, help="Name no patient, where the eligibility allows that.")
@click.option("--minutes", type=click.IntRange(1, 240), help="How long; as long as policy allows if left out.")
@click.pass_context
def break_glass(ctx: click.Context, reason: str, reference_file: IO[str] | None, no_reference: bool, minutes: int | None) -> None:
    """In an emergency: open one patient's records at once.

    Every custodian and auditor is told, and somebody else reviews it afterwards. The patient or encounter is asked for, not
    given as an option: command lines are kept in histories. It is neither kept nor recorded as you write it.
    """
    options = ctx.ensure_object(Session)
    reference = "" if no_reference else _reference(reference_file)
    with options.client() as client:
        broken = client.break_glass(reason, reference, minutes)
    show_running(options, broken)
    if not options.json:
        output.note(f"  somebody else reviews this before {broken.review_due_at}")


def _reference(file: IO[str] | None) -> str:
    if file is not None:
        text = str(file.read(_LONGEST + 1))
    elif sys.stdin.isatty():
        text = str(click.prompt("Patient or encounter, as the records name it", err=True))
    else:
        raise Stop("no patient or encounter is named", "give --reference-file (- for stdin), or --no-reference", USAGE)
    reference = text.rstrip("\n")
    if not reference or len(reference) > _LONGEST or "\n" in reference:
        raise Stop("the reference is not one line of text", "write it as the records' encryption context names it", USAGE)
    return reference


@click.command(cls=RemoteCommand)
@click.argument("elevation_id", metavar="[ELEVATION]", required=False)
@click.option("--verdict", type=click.Choice(("justified", "unjustified")), help="What you found.")
@click.option("--notes", help="Why; it is recorded. Name no patient here.")
@click.pass_context
def review(ctx: click.Context, elevation_id: str | None, verdict: str | None, notes: str | None) -> None:
    """Review a break-glass of somebody else; without one, list those that wait.

    \b
    keyclave review
    keyclave review elv_… --verdict justified --notes 'unconscious on arrival, chart checked'
    """
    options = ctx.ensure_object(Session)
    if elevation_id is None:
        _list_waiting(options)
        return
    if verdict is None or notes is None:
        raise Stop("a review has a verdict and notes", "give --verdict and --notes", USAGE)
    with options.client() as client:
        done = client.review_break_glass(elevation_id, verdict, notes)
    output.write_done(done, f"reviewed {done.id} of {done.principal}: {done.verdict}", as_json=options.json)


def _list_waiting(options: Session) -> None:
    with options.client() as client:
        found = [one for one in client.list_elevations() if one.status in ("to-review", "overdue")]
    rows = [(one.id, one.principal, one.started_at, one.reason, one.status, one.review_due_at) for one in found]
    columns = ("Elevation", "Who", "When", "Reason", "Status", "Due")
    output.write_list(found, columns, rows, as_json=options.json, empty="nothing waits for a review")
    if found:
        output.note("  next: what was done under one: keyclave audit events --grant ELEVATION")


@click.group(cls=Family)
def alarm() -> None:
    """See when the glass was broken, and say that you have seen it."""


@alarm.command(name="list")
@click.option("--all", "everything", is_flag=True, help="Also those that were acknowledged.")
@click.pass_context
def list_alarms(ctx: click.Context, everything: bool) -> None:
    """List your alarms."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        found = client.list_alarms(everything=everything)
    if options.json:
        output.write_json([output.plain(one) for one in found])
        return
    rows = [(one.id, one.kind, one.principal, one.raised_at, one.reason, one.elevation, one.review_due_at) for one in found]
    columns = ("Alarm", "Kind", "Who", "When", "Reason", "Elevation", "Review due")
    output.write_table(columns, rows, empty="there are none")


@alarm.command()
@click.argument("alarm_id", metavar="ALARM")
@click.pass_context
def acknowledge(ctx: click.Context, alarm_id: str) -> None:
    """Say that you have seen an alarm; it reviews nothing."""
    options = ctx.ensure_object(Session)
    with options.client() as client:
        seen = client.acknowledge_alarm(alarm_id)
    output.write_done(seen, f"acknowledged {seen.id}", as_json=options.json)
