"""The kinds of values that commands take, and the options that all of them share."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from keyclave_cli.session import Session

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def as_pairs(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return repeated NAME=VALUE texts as pairs; the value may be empty and may hold further equals signs."""
    pairs = []
    for text in value:
        name, equals, rest = text.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE, such as patient=p-17", ctx, param)
        pairs.append((name, rest))
    return pairs


def as_map(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    """Return repeated NAME=VALUE texts as a map; a name given twice is an error, since one of its values would be lost."""
    out: dict[str, str] = {}
    for name, text in as_pairs(ctx, param, value):
        if name in out:
            raise click.BadParameter(f"{name!r} is given twice", ctx, param)
        out[name] = text
    return out


def as_seconds(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Return a time span in seconds; it is written as such, or with a unit: 90s, 15m, 8h, 30d."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", value, re.ASCII)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a duration, such as 15m, 8h or 30d", ctx, param)
    return int(match[1]) * _UNITS[match[2]]


def context_option(help_text: str = "Encryption context: what the data is bound to. Repeatable.") -> Decorator:
    """Return the option --context, a map."""
    return click.option("--context", "-c", multiple=True, callback=as_map, metavar="NAME=VALUE", help=help_text)


def _kept(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Note a shared option in the session; the command further down the line wins."""
    if value is not None and value is not False:
        setattr(ctx.find_root().ensure_object(Session), str(param.name), value)


def _shared(*names: str, hidden: bool, **settings: Any) -> click.Option:
    return click.Option(list(names), expose_value=False, callback=_kept, is_eager=True, hidden=hidden, **settings)


def json_option(*, hidden: bool = False) -> click.Option:
    """Return the option --json."""
    return _shared("--json", "json", is_flag=True, hidden=hidden, help="Write JSON, errors too.")


def connection_options(*, hidden: bool) -> list[click.Option]:
    """Return the options that say which server, and as whom."""
    path = click.Path(dir_okay=False)
    return [
        _shared("--url", hidden=hidden, metavar="URL", help="The server, https://host:port. [KEYCLAVE_URL]"),
        _shared("--token-file", type=path, hidden=hidden, help="File that holds the credential. [KEYCLAVE_TOKEN_FILE]"),
        _shared("--ca-file", type=path, hidden=hidden, help="Authority of the server's certificate, PEM. [KEYCLAVE_CA_FILE]"),
        _shared("--cert", type=path, hidden=hidden, help="Client certificate to call by, PEM. [KEYCLAVE_CERT_FILE]"),
        _shared("--cert-key", type=path, hidden=hidden, help="Its private key, PEM. [KEYCLAVE_CERT_KEY_FILE]"),
        _shared("--profile", hidden=hidden, metavar="NAME", help="A profile's name or file. [KEYCLAVE_PROFILE]"),
        _shared("--home", type=click.Path(file_okay=False), hidden=hidden, help="Home of a local server. [KEYCLAVE_HOME]"),
        _shared("--approval", hidden=hidden, metavar="ID", help="The approval under which a sensitive change is made."),
        _shared("--purpose-of-use", hidden=hidden, metavar="PURPOSE", help="What the use is for: treatment, payment, …"),
        _shared("--timeout", type=click.FloatRange(0.1, 3600), hidden=hidden, metavar="SECONDS",
                help="Patience for each step of a request. [60]"),
    ]  # fmt: skip


class LocalCommand(click.Command):
    """A command that needs no server."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params.append(json_option())


class RemoteCommand(LocalCommand):
    """A command that talks to a server. The connection options may stand behind it too; its help does not repeat them."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params.extend(connection_options(hidden=True))


class Family(click.Group):
    """A group of remote commands."""

    command_class = RemoteCommand
