"""The backup of the ground's database: every member pushes its log to one repository, as deploy/backup says; here it is a folder.

What is documented stays as it is: the stanza, the encryption, compression and retention. What is read back is a moment of the past,
into a server of its own that nobody else knows.
"""

from __future__ import annotations

import configparser
import secrets
import subprocess
from pathlib import Path

from drill.ha.members import Member
from drill.ha.process import Account, Program

STANZA = "keyclave"


class Backup:
    """The repository of one run."""

    def __init__(self, documented: Path, folder: Path, account: Account) -> None:
        self._account = account
        self._repository = account.folder(folder / "repository")
        self._passphrase = secrets.token_urlsafe(32)
        self._documented = documented.read_text()

    def configure(self, member: Member) -> None:
        """Write a member's settings: the documented ones, with a folder as the repository."""
        settings = configparser.ConfigParser(interpolation=None)
        settings.read_string(self._documented)
        common = settings["global"]
        for name in [name for name in common if name.startswith(("repo1-s3", "repo1-storage"))]:
            del common[name]
        common.update({"repo1-type": "posix", "repo1-path": str(self._repository), "repo1-cipher-pass": self._passphrase})
        common.update({"lock-path": str(self._account.folder(member.folder / "lock")), "spool-path": str(member.folder)})
        settings[STANZA] = {
            "pg1-path": str(member.data),
            "pg1-port": str(member.ports.postgres),
            "pg1-socket-path": str(member.folder),
        }
        path = member.folder / "pgbackrest.conf"
        with path.open("w") as file:
            settings.write(file, space_around_delimiters=False)
        self._account.own(path, 0o600)

    def run(self, member: Member, password: str, *words: str) -> None:
        """Run pgbackrest on a member; raise with what it said when it fails."""
        command = ["pgbackrest", f"--config={member.folder}/pgbackrest.conf", f"--stanza={STANZA}", *words]
        environment = {"PATH": "/usr/bin:/bin", "PGPASSWORD": password, "LANG": "C.UTF-8"}
        done = subprocess.run(
            command, env=environment, capture_output=True, stdin=subprocess.DEVNULL, cwd="/", **self._account.switch()
        )
        if done.returncode:
            raise RuntimeError(f"pgbackrest {' '.join(words)}: {(done.stdout + done.stderr).decode()[-600:]}")

    def restore(self, member: Member, password: str, moment: str, postgres: Path, port: int) -> tuple[Program, Path]:
        """Read a moment of the past back into a new folder; return the server of it, not yet started, and its socket's folder."""
        folder = self._account.folder(member.folder / "restored")
        data = self._account.folder(folder / "data")
        self.run(
            member, password, f"--pg1-path={data}", "--type=time", f"--target={moment}", "--target-action=promote", "restore"
        )  # fmt: skip
        own = {
            "port": str(port), "listen_addresses": "", "unix_socket_directories": str(folder), "archive_mode": "off",
            "synchronous_standby_names": "", "primary_conninfo": "", "primary_slot_name": "",
        }  # fmt: skip
        command = [str(postgres / "postgres"), "-D", str(data)]
        for name, value in own.items():
            command += ["-c", f"{name}={value}"]
        return Program("the restored database", command, self._account, folder / "server.log"), folder
