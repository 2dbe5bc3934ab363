"""`keyclave doctor`: everything that can be checked from here, a line each, with advice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from keyclave_cli import output
from keyclave_cli.parameters import RemoteCommand
from keyclave_cli.problems import FAILED, OK, describe
from keyclave_cli.session import Session

if TYPE_CHECKING:
    from keyclave_cli.diagnosis.finding import Finding

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "skipped": "bright_black"}


@click.command(cls=RemoteCommand)
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Check connection, clock, credential and record.

    Looks at whether the server answers, over TLS 1.3 and with a certificate that is trusted; whether its clock agrees
    with this machine's; whether it is sealed or runs on a development root; when your credential expires; whether the
    record is signed and continues what was seen from here before; and, with --home, whether the disk of a local
    server has room. Exits with 1 if a check fails.
    """
    from keyclave_cli.diagnosis import connection as by_wire
    from keyclave_cli.diagnosis import server as by_answer
    from keyclave_cli.diagnosis.finding import Grade, fail

    session = ctx.ensure_object(Session)
    connection = session.connection()
    findings: list[Finding] = []
    _take(findings, by_wire.examine(connection, session.timeout), session)
    if not any(finding.grade is Grade.FAIL and finding.check in ("reachable", "ca") for finding in findings):
        try:
            _take(findings, by_answer.examine(session, connection), session)
        except Exception as error:
            problem = describe(error)
            if problem is None:
                raise
            _take(findings, [fail("server", problem.detail, problem.hint)], session)
    failed = any(finding.grade is Grade.FAIL for finding in findings)
    if session.json:
        output.write_json({"ok": not failed, "checks": [finding._asdict() for finding in findings]})
    ctx.exit(FAILED if failed else OK)


def _take(findings: list[Finding], more: Iterable[Finding], session: Session) -> None:
    """Keep findings, and show each as soon as it is made."""
    for finding in more:
        findings.append(finding)
        if not session.json:
            mark = click.style(finding.grade.value.ljust(7), fg=_COLOURS[finding.grade], bold=True)
            click.echo(f"{mark}  {finding.check.ljust(11)}  {output.printable(finding.said)}")
            if finding.advice:
                click.echo(f"{'':7}  {'':11}  next: {output.printable(finding.advice)}")
