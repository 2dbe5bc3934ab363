"""`keyclave login` and `logout`: a session of yours, kept in a profile that only you read."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from keyclave_cli import output
from keyclave_cli.parameters import RemoteCommand
from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.session import Session

if TYPE_CHECKING:
    from keyclave_cli.profiles import Profile
    from keyclave_client import Client
    from keyclave_client.login import LoggedIn

_BROWSER_SECONDS = 300.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@click.command(cls=RemoteCommand)
@click.option("--sso", metavar="NAME", help="Log in by this provider of single sign-on.")
@click.option("--no-browser", is_flag=True, help="Show a code to type in a browser elsewhere.")
@click.option("--save-as", metavar="NAME", help="Profile to keep the session in. [the one in use, or its name + -session]")
@click.pass_context
def login(ctx: click.Context, sso: str | None, no_browser: bool, save_as: str | None) -> None:
    """Log in with a passkey, or by single sign-on, in a browser.

    The session is kept in a profile, which is then the one in use. Where there is no browser, a code is shown that is typed in
    one elsewhere; a session got so is never of more than assurance level 2.
    """
    from keyclave_cli import profiles

    session = ctx.ensure_object(Session)
    if sso and no_browser:
        raise Stop("--sso needs a browser here", "leave out one; with --no-browser, sign on in the browser elsewhere", USAGE)
    if save_as:
        profiles.check_name(save_as)
    connection = session.connection()
    with session.client(authenticated=False) as client:
        elsewhere = no_browser or not (sso or _has_browser())
        opened = _by_code(client) if elsewhere else _by_browser(client, sso)
    kept = profiles.keep_session(
        session.chosen(), save_as, session.local_home(), connection.url, connection.ca_file, opened.token
    )
    if session.json:
        output.write_json({**_plain(opened), "profile": kept.name})
        return
    _tell(opened, kept, session)


@click.command(cls=RemoteCommand)
@click.pass_context
def logout(ctx: click.Context) -> None:
    """End the session in use, and forget its token."""
    from keyclave_cli import profiles

    session = ctx.ensure_object(Session)
    connection = session.connection()
    if connection.token is None or not connection.token.startswith("kcs_"):
        raise Stop("there is no session to end", "a bearer credential ends by `keyclave credential revoke`", USAGE)
    with session.client() as client:
        client.logout()
    chosen = session.chosen()
    if chosen is not None and chosen.token == connection.token:
        profiles.drop_token(chosen)
    if session.json:
        output.write_json({"ended": True})
    else:
        output.say("logged out")


def _has_browser() -> bool:
    """Tell whether a browser of this machine can be asked: not over SSH, and not without a display."""
    if os.environ.get("SSH_CONNECTION"):
        return bool(os.environ.get("BROWSER"))
    import webbrowser

    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    displayed = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(displayed or os.environ.get("BROWSER"))


def _by_browser(client: Client, sso: str | None) -> LoggedIn:
    import webbrowser

    from keyclave_cli.loopback import Loopback

    where = client.sign_on()
    _check_pages(where.pages)
    if sso and sso not in where.providers:
        known = ", ".join(where.providers) or "none"
        raise Stop(f"there is no provider {sso!r}", f"known: {known}; leave --sso out to log in with a passkey", USAGE)
    waiting = Loopback()
    try:
        path = f"/v1/sso/{sso}/start" if sso else "/ui/login"
        address = f"{where.pages}{path}?cli={waiting.waiting}"
        output.note(f"opening {address}")
        if not webbrowser.open(address):
            output.note("  next: open that address in a browser of this machine")
        return client.trade_code(waiting.wait(_BROWSER_SECONDS), waiting.verifier)
    finally:
        waiting.close()


def _check_pages(origin: str) -> None:
    """Refuse to open anything but a web page over TLS, or one of this machine."""
    parts = urlsplit(origin)
    plain = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if (parts.scheme != "https" and not plain) or not parts.hostname or not origin.isascii() or not origin.isprintable():
        raise Stop("the server names no address where people log in", "see people.origins in its configuration")


def _by_code(client: Client) -> LoggedIn:
    begun = client.begin_device_login()
    output.note(f"open {begun.verification_uri} in a browser, log in, and type the code\n\n    {begun.user_code}\n")
    interval, ends = begun.interval, time.monotonic() + begun.expires_in
    while time.monotonic() < ends:
        time.sleep(interval)
        now = client.poll_device_login(begun.device_code)
        interval = max(1, now.interval)
        if now.session is not None:
            return now.session
        if now.status == "access_denied":
            raise Stop("the login was turned away", "run `keyclave login` again, if it was not meant to be")
        if now.status == "expired_token":
            break
    raise Stop("nobody typed the code in time", "run `keyclave login` again")


def _plain(opened: LoggedIn) -> dict[str, object]:
    """Return what may be shown: all but the token."""
    return {name: value for name, value in output.plain(opened).items() if name != "token"}


def _tell(opened: LoggedIn, kept: Profile, session: Session) -> None:
    output.say(f"logged in as {opened.principal}: level {opened.aal} by {opened.how}, until {opened.expires_at}")
    used = session.chosen()
    if used is not None and used.path.resolve() == kept.path.resolve():
        output.note(f"  next: commands use profile {kept.name} now; `keyclave logout` ends the session")
    else:  # a home of several profiles, or a profile named on this line, has its own way
        output.note(f"  next: give --profile {kept.name} to commands; `keyclave logout` with it ends the session")
