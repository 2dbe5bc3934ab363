"""Profiles: a server's address, its CA and a credential under one name, each in a file that only its owner reads.

They lie in `<home>/profiles/` of a local server and in the user's configuration folder, as JSON:

    {"url": "https://kms.hospital.example:8443", "ca_file": "ca.pem", "token_file": "operator.token"}

(or "token" in place of "token_file"). Relative paths are relative to the profile's own folder.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from keyclave_cli.new_files import new_file
from keyclave_cli.problems import USAGE, Stop

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FIELDS = frozenset({"url", "ca_file", "token_file", "token"})
_IN_USE = "profile-in-use"
SESSION = "kcs_"  # how a session's token begins


@dataclass(frozen=True)
class Profile:
    """A profile as read; its token does not print."""

    name: str
    path: Path
    url: str
    ca_file: str | None = None
    token_file: str | None = None
    token: str | None = field(default=None, repr=False)


def configuration() -> Path:
    """Return the user's configuration folder for Keyclave; it need not exist."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(base) / "keyclave"


def folders(home: str | None) -> list[Path]:
    """Return where profiles are looked for, in that order."""
    return ([Path(home) / "profiles"] if home else []) + [configuration() / "profiles"]


def check_name(name: str) -> str:
    """Return `name` if it can name a profile."""
    if not _NAME.fullmatch(name):
        raise Stop(f"{name!r} cannot name a profile", "use letters, digits, dots, dashes and underscores", USAGE)
    return name


def list_profiles(home: str | None) -> list[Path]:
    """Return the files of all profiles, by name."""
    found: dict[str, Path] = {}
    for folder in reversed(folders(home)):
        found.update({path.stem: path for path in folder.glob("*.json")})
    return [found[name] for name in sorted(found)]


def find_profile(name: str, home: str | None) -> Profile:
    """Return the profile of that name, or in that file."""
    if os.sep in name or name.endswith(".json"):
        return read_profile(Path(name))
    for folder in folders(home):
        path = folder / f"{check_name(name)}.json"
        if path.is_file():
            return read_profile(path)
    known = ", ".join(path.stem for path in list_profiles(home)) or "none"
    raise Stop(f"there is no profile {name!r}", f"known: {known}; make one with `keyclave profile add`", USAGE)


def profile_in_use(home: str | None) -> Profile | None:
    """Return the profile that KEYCLAVE_PROFILE names, else the one chosen by `profile use`, else the only one of a local home."""
    named = os.environ.get("KEYCLAVE_PROFILE")
    if named:
        return find_profile(named, home)
    if home:
        there = list(folders(home)[0].glob("*.json"))
        return read_profile(there[0]) if len(there) == 1 else _of_home(Path(home))
    try:
        chosen = (configuration() / _IN_USE).read_text().strip()
    except FileNotFoundError:
        return None
    path = Path(chosen)
    if not path.is_file():
        raise Stop(f"{path}: the profile in use is gone", "choose another with `keyclave profile use NAME`", USAGE)
    return read_profile(path)


def _of_home(home: Path) -> Profile | None:
    """Return where the server of a home listens, by its configuration; a credential is not among it."""
    import tomllib

    path = home / "keyclave.toml"
    try:
        listen = tomllib.loads(path.read_text(encoding="utf-8")).get("listen", {})
        host, port, tls = str(listen.get("host", "127.0.0.1")), int(listen.get("port", 8443)), bool(listen.get("tls", True))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError):
        raise Stop(f"{path} cannot be read", "give --url, or correct the file") from None
    reached = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - named, not bound
    return Profile(home.name, path, f"{'https' if tls else 'http'}://{reached}:{port}", str(home / "tls/ca.pem") if tls else None)


def use_profile(profile: Profile) -> None:
    """Remember a profile as the one in use."""
    _write(configuration() / _IN_USE, str(profile.path.resolve()) + "\n", replace=True)


def read_profile(path: Path) -> Profile:
    """Read and check one profile."""
    try:
        with open(path, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            said = json.load(file)
    except FileNotFoundError:
        raise Stop(f"{path}: there is no such profile", "see `keyclave profile list`", USAGE) from None
    except ValueError:
        raise Stop(f"{path}: this is not JSON", "make it anew with `keyclave profile add`") from None
    if not isinstance(said, dict) or set(said) - _FIELDS or not all(isinstance(value, str) for value in said.values()):
        raise Stop(f"{path}: this is not a profile", f"it is a JSON object with {', '.join(sorted(_FIELDS))}, all of them text")
    if "url" not in said:
        raise Stop(f"{path}: the profile names no server", 'add "url": "https://host:port"')
    if "token" in said and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Stop(f"{path}: others may read this credential", f"run `chmod 600 {path}`, and consider the credential known")
    files = {name: str(path.parent / said[name]) for name in ("ca_file", "token_file") if name in said}
    return Profile(path.stem, path, said["url"], files.get("ca_file"), files.get("token_file"), said.get("token"))


def write_profile(name: str, home: str | None, url: str, ca_file: str | None, token: str | None, *, replace: bool) -> Profile:
    """Write a profile (0600) into the home's folder, or the user's; the CA is named by its absolute path."""
    path = folders(home)[0] / f"{check_name(name)}.json"
    _write_profile(path, url, ca_file, token, replace=replace)
    return read_profile(path)


@contextmanager
def new_profile(name: str | None, home: str | None) -> Iterator[None]:
    """Keep the name of a new profile for the credential that is about to be made; then `write_profile` replaces what is there."""
    if name is None:
        yield
        return
    path = folders(home)[0] / f"{check_name(name)}.json"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Stop(f"{path.parent}: {error.strerror}", "profiles need a folder: see --home and XDG_CONFIG_HOME", USAGE) from None
    with new_file(path, "name another profile; `keyclave profile list` shows those that there are"):
        yield


def _write_profile(path: Path, url: str, ca_file: str | None, token: str | None, *, replace: bool) -> None:
    said = {"url": url, "ca_file": os.path.abspath(ca_file) if ca_file else None, "token": token}
    _write(path, json.dumps({key: value for key, value in said.items() if value is not None}, indent=2) + "\n", replace=replace)


def keep_session(
    chosen: Profile | None, save_as: str | None, home: str | None, url: str, ca_file: str | None, token: str
) -> Profile:
    """Keep a session's token and use its profile from now on.

    It goes into the profile `chosen` where that is of the same server and holds a session or nothing: a bearer credential, which
    is shown only once, is never written over. Else it goes beside it.
    """
    mine = chosen if chosen is not None and chosen.path.suffix == ".json" and chosen.url.rstrip("/") == url.rstrip("/") else None
    if save_as is None and mine is not None and not mine.token_file and (mine.token or SESSION).startswith(SESSION):
        _write_profile(mine.path, url, mine.ca_file or ca_file, token, replace=True)
        return read_profile(mine.path)
    name = save_as or (f"{mine.name}-session" if mine is not None else "session")
    kept = write_profile(name, home, url, ca_file, token, replace=True)
    use_profile(kept)
    return kept


def drop_token(profile: Profile) -> None:
    """Forget the token in a profile."""
    _write_profile(profile.path, profile.url, profile.ca_file, None, replace=True)


def _write(path: Path, text: str, *, replace: bool) -> None:
    """Write a private file whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        if replace:
            os.replace(partial, path)
        else:
            _take_name(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _take_name(partial: Path, path: Path) -> None:
    """Give the file its name only if that is free: a rename would silently replace."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
