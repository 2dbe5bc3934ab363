"""How the ceremony's results reach people: printed once, sealed to custodians' keys or passphrases, or written for a script."""

from __future__ import annotations

import getpass
import os
import shutil
import sys
from pathlib import Path
from typing import IO

import msgspec

from keyclave.app.ceremony import Made, Wishes, check_new, conclude, hold
from keyclave.app.wiring import new_module
from keyclave.core.errors import Malformed
from keyclave.crypto.custody import open_with_key, open_with_passphrase, protect_to_key, protect_to_passphrase
from keyclave.crypto.shares import ShareSet

_LEAST_PASSPHRASE = 15  # characters; SP 800-63B-4: the length of a password that stands alone


def init(home: Path, wishes: Wishes, public_keys: list[Path], out_json: Path | None, *, passphrases: bool) -> int:
    """Hold the ceremony and hand over what it made."""
    check_new(home)  # before anybody is asked for anything
    if public_keys and len(public_keys) != wishes.custodians:
        raise Malformed(
            f"{len(public_keys)} public keys for {wishes.custodians} custodians", "name one --protect-to for each custodian"
        )
    phrases = [_new_passphrase(i + 1) for i in range(wishes.custodians)] if passphrases else []
    pems = [_read(path) for path in public_keys]
    out = None if out_json is None else _reserve(out_json)  # before the ceremony: what it makes must have somewhere to go
    made, shares = _held(home, wishes, out)
    protected = _protect(shares, pems, phrases)
    if protected:
        folder = home / "shares"
        folder.mkdir(mode=0o700)
        made.shares = []
        for number, text in enumerate(protected, 1):
            path = folder / f"share-{number}.txt"
            path.write_text(text)
            made.shares.append(str(path))
    if out is not None:
        with out:
            out.write(msgspec.json.encode(made))
            out.flush()
            os.fsync(out.fileno())
    else:
        _show(made, home, in_files=bool(protected))
    conclude(home, wishes, made)
    return 0


def _held(home: Path, wishes: Wishes, out: IO[bytes] | None) -> tuple[Made, ShareSet]:
    """Hold the ceremony; one that is refused leaves nothing in the way of the next, which has the same places."""
    new = not home.exists()
    ours = new or not any(home.iterdir())
    try:
        return hold(home, wishes)
    except BaseException:
        if out is not None:
            out.close()
            os.unlink(out.name)
        for path in home.iterdir() if ours and home.exists() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if new and home.exists():
            home.rmdir()
        raise


def _protect(shares: ShareSet, pems: list[bytes], phrases: list[str]) -> list[str]:
    if pems:
        return [protect_to_key(share, pem) for share, pem in zip(shares.shares, pems, strict=True)]
    module = new_module()
    return [protect_to_passphrase(module, share, phrase) for share, phrase in zip(shares.shares, phrases, strict=False)]


def _new_passphrase(number: int) -> str:
    while True:
        phrase = getpass.getpass(f"Custodian {number}, choose a passphrase (at least {_LEAST_PASSPHRASE} characters): ")
        if len(phrase) < _LEAST_PASSPHRASE:
            sys.stderr.write("That is too short. Several words are easy to remember and hard to guess.\n")
        elif getpass.getpass("Again: ") == phrase:
            return phrase
        else:
            sys.stderr.write("The two differ.\n")


def _show(made: Made, home: Path, *, in_files: bool) -> None:
    say = sys.stdout.write
    say(f"\nKeyclave is initialised in {home}\n")
    if made.development:
        say("\n  DEVELOPMENT: the root opens by itself. Never keep real patient data here.\n")
    say(f"\nShares of the recovery key: any {made.threshold} of {len(made.shares)} unseal the server.\n")
    say("Give each custodian one, and keep no copy.\n")
    for number, share in enumerate(made.shares, 1):
        holder = f"  (for {made.holders[number - 1]})" if made.holders else ""
        say(f"  {number}. {share}{holder}\n")
    if not made.holders and not made.development:
        say("  Nobody is named as their holder yet, so no rule over holders sees anybody: `keyclave share name NUMBER PERSON`.\n")
    if in_files:
        say("  Each file opens only for its custodian: `keyclave unseal --share-file FILE`.\n")
    say("\nFirst credentials, one person each; shown once, valid 30 days:\n")
    for role, token in made.credentials.items():
        say(f"  {role:<10} {token}\n")
    say(f"\nNext:\n  keyclave serve --home {home}\n")
    if made.development:
        say(f"  keyclave --home {home} --profile custodian key create patients --owner cardiology\n\n")
    else:
        say(f"  keyclave --home {home} unseal\n\n")


def open_share(file: Path, key: Path | None) -> int:
    """Open a protected share for its custodian and print its text, for a pipe into `keyclave unseal`."""
    armoured = _read(file).decode("ascii", "replace")
    if key is not None:
        share = open_with_key(armoured, _read(key))
    else:
        share = open_with_passphrase(new_module(), armoured, getpass.getpass("Passphrase: ", stream=sys.stderr))
    sys.stdout.write(share.to_text() + "\n")
    return 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise Malformed(f"{path}: {fault.strerror}", "name a file that can be read") from None


def _reserve(path: Path) -> IO[bytes]:
    """Open a new file that only its owner reads."""
    try:
        return open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))
    except OSError as fault:
        raise Malformed(f"{path}: {fault.strerror}", "name a new file in a folder that exists") from None
