"""What was trusted before: a log's keys from the first contact on, and the newest checkpoint that verified.

A log that later shows other keys, or a checkpoint that does not continue the one kept here, is caught, whatever it
says now. The files are under `records/<origin>/` in the user's configuration folder: `trusted-keys`,
`trusted-checkpoint`, and `log/`, the export.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from keyclave_cli.problems import Stop
from keyclave_cli.profiles import configuration
from keyclave_verify.checkpoints import Trust, parse_checkpoint, parse_trust
from keyclave_verify.report import Fault


class Trusted(NamedTuple):
    """Keys to verify with, and whether they were seen here for the first time."""

    trust: Trust
    first: bool


class TrustedRecord:
    """What is kept about one log."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.folder = configuration() / "records" / quote(origin, safe="").replace(".", "%2E")

    @property
    def log(self) -> Path:
        """Return where the export is kept."""
        return self.folder / "log"

    def known_keys(self) -> Trust | None:
        """Return the keys that are trusted, or None before the first contact."""
        try:
            return read_trust(self.folder / "trusted-keys")
        except FileNotFoundError:
            return None

    def trust(self, origin: str, vkeys: Sequence[str]) -> Trusted:
        """Return the trusted keys; on first contact those that are served now. Other keys than before stop everything."""
        text = json.dumps({"origin": origin, "vkeys": list(vkeys)}, indent=2) + "\n"
        try:
            served = parse_trust(text)
        except (ValueError, KeyError) as error:
            raise Stop(f"the server's log keys cannot be used: {error}", "tell the server's operators") from None
        known = self.known_keys()
        if known is None:
            self._write("trusted-keys", text.encode())
            return Trusted(served, True)
        if set(known.keys) != set(served.keys) or known.origin != served.origin:
            where = self.folder / "trusted-keys"
            raise Stop(
                f"the log {origin} shows other keys than those trusted since the first contact ({where})",
                "this may be another server, or a forged log: ask its auditors for the keys before you trust them. "
                f"If it is one that you have just made anew, move {self.folder} away",
            )
        return Trusted(known, False)

    def checkpoint(self) -> bytes | None:
        """Return the newest checkpoint that verified here."""
        try:
            return (self.folder / "trusted-checkpoint").read_bytes()
        except FileNotFoundError:
            return None

    def keep(self, raw: bytes) -> None:
        """Keep a checkpoint that has just verified. The kept one never goes back to a smaller log."""
        before = self.checkpoint()
        try:
            if before is None or parse_checkpoint(before, "kept").size <= parse_checkpoint(raw, "new").size:
                self._write("trusted-checkpoint", raw)
        except Fault as fault:
            raise Stop(fault.detail, f"look at {self.folder / 'trusted-checkpoint'}") from None

    def _write(self, name: str, data: bytes) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = self.folder / f".{name}.{os.getpid()}.part"
        try:
            with open(partial, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.folder / name)
        finally:
            partial.unlink(missing_ok=True)


def read_trust(path: Path) -> Trust:
    """Read a file of verifier keys."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        return parse_trust(text)
    except (ValueError, KeyError, TypeError) as error:
        raise Stop(f"{path}: these verifier keys cannot be used: {error}", "get them anew from somebody you trust") from None
