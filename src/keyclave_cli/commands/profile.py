"""`keyclave profile`: names for the servers and credentials you use."""

from __future__ import annotations

import json

import click

from keyclave_cli import output, profiles
from keyclave_cli.parameters import Family, LocalCommand
from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.session import Session, read_token


@click.group(cls=Family)
def profile() -> None:
    """Name the servers and credentials you use.

    A profile holds a server's address, its CA and a credential, in a file that only you can read. `--profile NAME` or
    KEYCLAVE_PROFILE chooses one for a command, `keyclave profile use` for all that follow.
    """


@profile.command(name="list", cls=LocalCommand)
@click.pass_context
def list_(ctx: click.Context) -> None:
    """List the profiles there are."""
    session = ctx.ensure_object(Session)
    home = session.local_home()
    used = profiles.profile_in_use(home)
    rows = []
    for path in profiles.list_profiles(home):
        found = profiles.read_profile(path)
        in_use = used is not None and used.path.resolve() == path.resolve()
        rows.append({"name": found.name, "url": found.url, "in_use": in_use, "path": str(found.path)})
    if session.json:
        output.write_json(rows)
        return
    cells = [("*" if row["in_use"] else "", row["name"], row["url"], row["path"]) for row in rows]
    output.write_table(
        ("Used", "Name", "Server", "File"), cells, empty="there is no profile; make one with `keyclave profile add`"
    )


@profile.command()
@click.argument("name")
@click.pass_context
def show(ctx: click.Context, name: str) -> None:
    """Show a profile, but not its credential."""
    session = ctx.ensure_object(Session)
    found = profiles.find_profile(name, session.local_home())
    held = "in the profile" if found.token else found.token_file
    if session.json:
        output.write_json(
            {"name": found.name, "url": found.url, "ca_file": found.ca_file, "credential": held, "path": str(found.path)}
        )
        return
    rows = [
        ("Name", found.name),
        ("Server", found.url),
        ("CA file", found.ca_file),
        ("Credential", held or "none"),
        ("File", found.path),
    ]
    output.write_fields(rows)


@profile.command()
@click.argument("name")
@click.pass_context
def use(ctx: click.Context, name: str) -> None:
    """Use a profile for all commands that name no other."""
    session = ctx.ensure_object(Session)
    found = profiles.find_profile(name, session.local_home())
    profiles.use_profile(found)
    if session.json:
        output.write_json({"in_use": found.name, "path": str(found.path)})
    else:
        output.say(f"using profile {found.name} ({found.url})")


@profile.command()
@click.argument("name", required=False)
@click.option(
    "--from-init",
    type=click.Path(exists=True, dir_okay=False),
    help="Make a profile for each first credential in what `keyclave init --out-json` wrote.",
)
@click.option("--force", is_flag=True, help="Replace profiles of that name.")
@click.pass_context
def add(ctx: click.Context, name: str | None, from_init: str | None, force: bool) -> None:
    """Make a profile of a server, its CA and a credential.

    The server is that of --url and --ca-file; the credential comes from --token-file, or is asked for. With --home
    the profile is kept in that server's home, else in your configuration folder.

    \b
    keyclave profile add operator --url https://127.0.0.1:8443 --ca-file ca.pem --token-file operator.token
    keyclave profile add --from-init made.json
    """
    session = ctx.ensure_object(Session)
    home = session.local_home()
    if (name is None) == (from_init is None):
        raise Stop("what the profile is called is not said once", "give a NAME, or --from-init FILE", USAGE)
    if from_init is not None:
        made = _of_ceremony(from_init, home, force=force)
    else:
        if session.url is None:
            raise Stop("the profile's server is not named", "give --url https://host:port", USAGE)
        token = read_token(session.token_file) if session.token_file else click.prompt("Token", hide_input=True, err=True).strip()
        made = [profiles.write_profile(str(name), home, session.url, session.ca_file, token, replace=force)]
    if session.json:
        output.write_json([{"name": one.name, "url": one.url, "path": str(one.path)} for one in made])
    else:
        for one in made:
            output.say(f"made profile {one.name} for {one.url}")


def _of_ceremony(path: str, home: str | None, *, force: bool) -> list[profiles.Profile]:
    with open(path, encoding="utf-8") as file:
        try:
            said = json.load(file)
            url, ca_file, credentials = said["url"], said["ca_file"], dict(said["credentials"])
        except (ValueError, KeyError, TypeError):
            raise Stop(
                f"{path} is not what a ceremony hands over", "name the file that `keyclave init --out-json` wrote"
            ) from None
    return [profiles.write_profile(role, home, url, ca_file, token, replace=force) for role, token in sorted(credentials.items())]
