"""`keyclave status`: how the server is, on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from keyclave_cli import output
from keyclave_cli.parameters import RemoteCommand
from keyclave_cli.problems import NO_SERVER, OK, describe
from keyclave_cli.session import Session

if TYPE_CHECKING:
    from keyclave_client.views import Status


@click.command(cls=RemoteCommand)
@click.pass_context
def status(ctx: click.Context) -> None:
    """Show how the server is, on one screen.

    Needs no credential; with one it also says who you are. Exits with 3 when the server is sealed.
    """
    session = ctx.ensure_object(Session)
    connection = session.connection()
    with session.client(authenticated=False) as client:
        said = client.status()
        who: Any = None
        if connection.token is not None and not said.sealed:
            try:
                who = client.whoami()
            except Exception as error:
                problem = describe(error)
                if problem is None:
                    raise
                who = problem
    if session.json:
        known = output.plain(who) if who is not None and not isinstance(who, Exception) else None
        output.write_json({"url": connection.url, **output.plain(said), "whoami": known})
    else:
        _show(connection.url, said, who)
    ctx.exit(NO_SERVER if said.sealed else OK)


def _show(url: str, said: Status, who: Any) -> None:
    unseal, module, log = said.unseal, said.module, said.log
    if said.development:
        output.say("*** DEVELOPMENT ROOT: the recovery key lies on this server's disk. Never for real patient data. ***\n")
    state = f"SEALED{_WHY.get(said.why_sealed, '')}, {_given(unseal)}" if said.sealed else "open"
    validated = module.get("certificate") or ("FIPS mode" if module.get("fips") else "not validated")
    output.write_fields(
        [
            ("Server", url),
            ("Version", said.version),
            ("State", state),
            ("People", "bearer tokens are enough" if said.people == "tokens" else "log in with passkeys"),
            ("Unsealing", _custodians(unseal.get("threshold"))),
            ("Crypto module", f"{module.get('name')} {module.get('version')} ({validated})"),
            ("Record", f"{log.get('origin')}, {log.get('size', 0):,} events"),
            ("You", None if who is None else _who(who)),
        ]
    )
    if getattr(who, "alarms", 0):
        output.note(f"  {output.count_text(who.alarms, 'alarm')} of broken glass: keyclave alarm list")
    if said.sealed:
        output.note("  next: custodians open it with `keyclave unseal`")


_WHY = {
    "started": " since it was started",
    "sealed": " by an operator",
    "lost": " because every process that held the root key ended",
    "behind": " because this node missed what others changed",
}


def _given(unseal: Any) -> str:
    return f"{unseal.get('received', 0)} of {unseal.get('threshold', '?')} shares given"


def _custodians(threshold: Any) -> str:
    return "1 custodian" if threshold == 1 else f"{threshold} custodians"


def _who(who: Any) -> str:
    if isinstance(who, Exception):
        return f"nobody: {who}"
    return f"{who.principal}, {who.role}, credential valid until {who.expires_at}"
