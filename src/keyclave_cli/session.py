"""Which server, and as whom: from the command line, a profile, and the environment.

A source that names a server of its own lends its credential and its CA to that server only: with `--url` pointing
elsewhere, the token of the profile in use stays where it is. No option takes a token itself: command lines are read
by every process of the machine and kept in histories.
"""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from keyclave_cli.problems import USAGE, Stop
from keyclave_cli.profiles import Profile, find_profile, profile_in_use

if TYPE_CHECKING:
    from keyclave_client import Client

_TOKEN_BYTES = 4096


class Connection(NamedTuple):
    """What was decided. `token_source` says in words where the credential came from."""

    url: str
    ca_file: str | None
    token: str | None
    token_source: str | None


class Source(NamedTuple):
    """One place that may say something about the connection."""

    name: str
    url: str | None
    ca_file: str | None
    token_file: str | None
    token: str | None


@dataclass
class Session:
    """What the shared options said. The field names are the options' names."""

    url: str | None = None
    token_file: str | None = None
    ca_file: str | None = None
    cert: str | None = None
    cert_key: str | None = None
    profile: str | None = None
    home: str | None = None
    timeout: float = 60.0  # longer than a change waits for a silent node with a spool (spec/nodes.md)
    approval: str | None = None
    json: bool = False
    purpose_of_use: str | None = None

    def connection(self) -> Connection:
        """Decide, and read the credential."""
        sources = self._sources()
        url = next((source.url for source in sources if source.url), None)
        if url is None:
            raise Stop("no server is named", "give --url or --profile, or choose one with `keyclave profile use NAME`", USAGE)
        usable = [source for source in sources if source.url is None or source.url.rstrip("/") == url.rstrip("/")]
        ca_file = next((source.ca_file for source in usable if source.ca_file), None)
        speaker = next((source for source in usable if source.token_file or source.token), None)
        if speaker is None:
            return Connection(url, ca_file, None, None)
        token = read_token(speaker.token_file) if speaker.token_file else _checked(speaker.token or "", speaker.name)
        return Connection(url, ca_file, token, speaker.token_file or speaker.name)

    def client(self, *, authenticated: bool = True) -> Client:
        """Return a client; without a credential where one is needed, say so before the server has to."""
        connection = self.connection()
        certificate = self.certificate()
        if authenticated and connection.token is None and certificate is None:
            raise Stop(
                f"there is no credential for {connection.url}",
                "give --token-file or --profile, or set KEYCLAVE_TOKEN_FILE; an operator or custodian issues credentials",
                USAGE,
            )
        if connection.ca_file is not None and not os.path.isfile(connection.ca_file):
            raise Stop(f"{connection.ca_file}: there is no such CA file", "give --ca-file with the server's tls/ca.pem", USAGE)
        # httpx loads its own command line, and with it rich and pygments, wherever those are installed: a third of this program's
        # start. A None among the modules makes that import fail, which httpx is ready for.
        sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
        from keyclave_client.client import Client

        # who names a certificate on the command line calls by it, and not by the token of a profile that happens to be in use
        token = None if self.cert and not self.token_file else connection.token
        return Client(
            connection.url,
            token,
            ca_file=connection.ca_file,
            certificate=certificate,
            timeout=self.timeout,
            approval=self.approval,
            purpose=self.purpose_of_use,
        )

    def certificate(self) -> tuple[str, str] | None:
        """Return the files of the client certificate and its key, if any are named."""
        chain = self.cert or os.environ.get("KEYCLAVE_CERT_FILE")
        key = self.cert_key or os.environ.get("KEYCLAVE_CERT_KEY_FILE")
        if not chain and not key:
            return None
        if not chain or not key:
            raise Stop("a client certificate is two files", "give --cert and --cert-key", USAGE)
        for path in (chain, key):
            if not os.path.isfile(path):
                raise Stop(f"{path}: there is no such file", "check the spelling and where you are", USAGE)
        return chain, key

    def local_home(self) -> str | None:
        """Return the home of a local server, if one was named."""
        return self.home or os.environ.get("KEYCLAVE_HOME")

    def chosen(self) -> Profile | None:
        """Return the profile that is named or in use, or None."""
        return find_profile(self.profile, self.local_home()) if self.profile else profile_in_use(self.local_home())

    def _sources(self) -> list[Source]:
        """Return the places that speak, first the one that counts most."""
        environment = os.environ.get
        sources = [Source("the command line", self.url, self.ca_file, self.token_file, None)]
        if self.profile:
            sources.append(_of_profile(find_profile(self.profile, self.local_home())))
        sources.append(
            Source(
                "KEYCLAVE_TOKEN",
                environment("KEYCLAVE_URL"),
                environment("KEYCLAVE_CA_FILE"),
                environment("KEYCLAVE_TOKEN_FILE"),
                environment("KEYCLAVE_TOKEN"),
            )
        )
        if not self.profile:
            try:
                chosen = profile_in_use(self.local_home())
            except Stop:
                # a broken profile is no reason to stop where another source names the server
                if not any(source.url for source in sources):
                    raise
                chosen = None
            if chosen is not None:
                sources.append(_of_profile(chosen))
        return sources


def _of_profile(profile: Profile) -> Source:
    return Source(f"profile {profile.name}", profile.url, profile.ca_file, profile.token_file, profile.token)


def read_token(path: str) -> str:
    """Return the credential in a file that others cannot read or change."""
    try:
        with open(path, encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
                raise Stop(f"{path}: others may read or change this credential", f"run `chmod 600 {path}`, and consider it known")
            return _checked(file.read(_TOKEN_BYTES), path)
    except UnicodeDecodeError:
        raise Stop(f"{path}: this is not a credential", "the file holds the token and nothing else") from None


def _checked(text: str, where: str) -> str:
    token = text.strip()
    if not token or len(token) >= _TOKEN_BYTES or not token.isascii() or not token.isprintable() or " " in token:
        raise Stop(f"{where}: this is not a credential", "it holds the token and nothing else")
    return token
