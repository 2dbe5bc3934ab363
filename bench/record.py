"""The record: whether appending to a long log is as fast as to a short one, how fast it verifies, how long a start takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.load import Wrk
from bench.ours import ENVIRONMENT, Keyclave, encrypt
from bench.prefill import prefill
from bench.served import SMALL

CONNECTIONS = 64


@dataclass(frozen=True)
class Appending:
    """Events in a second through the whole server, on a log that is long and on one that is new; the start of the long one."""

    long: float
    new: float
    ratio: float  # the median of the rounds' own ratios: two samples side by side share the machine's mood
    filled_in: float
    start: float


def appending(
    wrk: Wrk, folder: Path, new: Keyclave, events: int, rounds: int, seconds: float, say: Callable[[str], None]
) -> Appending:
    """Compare a server whose log begins with `events` events with `new`, whose log holds what this run wrote."""
    say(f"filling a log with {events:,} events")
    long = Keyclave(folder, "long", tls=False)
    filled_in = prefill(long.home / "keyclave.db", events)
    try:
        start = median([long.start(), *start_seconds(long, 2)])  # the first while the disk still writes what was filled in
        long.unseal()
        long.furnish()
        work, pairs = encrypt(SMALL), []
        for number in range(rounds + 1):  # the first pair only warms
            say(f"appending to it, round {number} of {rounds}" if number else "warming up")
            rates = {}
            for server in (long, new) if number % 2 else (new, long):
                sample = wrk.run(server.endpoint(), work, CONNECTIONS, seconds if number else 1)
                rates[server.home] = sample.requests_per_second
            pairs.append((rates[long.home], rates[new.home]))
    finally:
        long.stop()
    pairs = pairs[1:]
    return Appending(
        long=median(pair[0] for pair in pairs),
        new=median(pair[1] for pair in pairs),
        ratio=median(pair[0] / pair[1] for pair in pairs),
        filled_in=filled_in,
        start=start,
    )


def verifying(folder: Path, events: int, passes: int, say: Callable[[str], None]) -> tuple[int, float]:
    """Export a log of `events` events as an auditor does; return its size and the seconds that the command to verify it takes."""
    say(f"exporting and verifying a log of {events:,} events")
    server = Keyclave(folder, "audited", tls=True)
    prefill(server.home / "keyclave.db", events)
    export, token, keys = folder / "export", folder / "auditor.token", folder / "vkeys"
    token.write_text(server.made["credentials"]["auditor"])
    token.chmod(0o600)
    try:
        server.start()
        server.unseal()
        where = ["--url", server.url, "--ca-file", server.ca_file, "--token-file", str(token)]
        _program("keyclave_cli", *where, "audit", "export", str(export))
    finally:
        server.stop()
    keys.write_text("\n".join(json.loads((export / "keys").read_text())["vkeys"]) + "\n")
    seconds = []
    for _ in range(passes):
        began = time.monotonic()
        report = json.loads(_program("keyclave_verify", "log", str(export), "--vkey-file", str(keys), "--json"))
        seconds.append(time.monotonic() - began)
    return int(report["size"]), min(seconds)


def start_seconds(server: Keyclave, passes: int) -> list[float]:
    """Start a server several times; return each time from the start of the process to its first answer. It runs afterwards."""
    seconds = []
    for _ in range(passes):
        server.stop()
        seconds.append(server.start())
    return seconds


def help_milliseconds(passes: int) -> float:
    """Return the median of `keyclave --help`, from the start of the process to its end."""
    command = Path(sys.executable).with_name("keyclave")
    program = [str(command)] if command.exists() else [sys.executable, "-m", "keyclave_cli"]
    seconds = []
    for _ in range(passes + 1):  # the first one fills the disk cache
        began = time.monotonic()
        subprocess.run([*program, "--help"], check=True, stdout=subprocess.DEVNULL, env={**os.environ, **ENVIRONMENT})
        seconds.append(time.monotonic() - began)
    return median(seconds[1:]) * 1000


def _program(module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", module, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ENVIRONMENT})
    if run.returncode:
        raise RuntimeError(f"{module} failed: {run.stderr.strip()[-500:] or run.stdout.strip()[-500:]}")
    return run.stdout
