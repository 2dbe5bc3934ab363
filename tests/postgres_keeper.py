"""A process that makes a throw-away PostgreSQL, runs it, and ends it as soon as the test session is gone, however that ended.

    python -m tests.postgres_keeper FOLDER PID      PID is the session's own process

It writes FOLDER/ready once the server answers, or FOLDER/failed with the reason.
"""

from __future__ import annotations

import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from keyclave.crypto.certificates import development_certificates

SETTINGS = """
listen_addresses = '127.0.0.1,127.0.0.2'
unix_socket_directories = '{folder}'
max_connections = 200
shared_buffers = 64MB
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
ssl = on
ssl_cert_file = '{folder}/server.pem'
ssl_key_file = '{folder}/server.key'
log_min_messages = warning
log_line_prefix = '%m %d %u '
timezone = 'UTC'
"""
ACCESS = """
local   all all                 trust
hostssl all all 127.0.0.0/8     scram-sha-256
"""
SECONDS = 60


def programs() -> Path:
    """Return the folder of PostgreSQL's server programs, newest version first."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if not found:
        raise FileNotFoundError("PostgreSQL is not installed: run scripts/setup test")
    return found[-1].parent


def account() -> dict[str, object]:
    """Return how to start a program as an account that PostgreSQL accepts: it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    person = pwd.getpwnam("postgres")
    return {"user": person.pw_uid, "group": person.pw_gid, "extra_groups": []}


def run(folder: Path, *command: str) -> None:
    """Run a program to its end."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, **account())  # type: ignore[call-overload]
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr}")


def make(folder: Path, port: int) -> None:
    """Make the data directory, its certificate and its settings."""
    papers = development_certificates(("localhost", "127.0.0.1"))
    for name, content in (("ca.pem", papers.ca), ("server.pem", papers.server), ("server.key", papers.server_key)):
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600 if name.endswith("key") else 0o644)
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        for path in (folder, *folder.iterdir()):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    data = folder / "data"
    run(
        folder,
        str(programs() / "initdb"),
        "-D",
        str(data),
        "-U",
        "postgres",
        "--no-sync",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale",
        "C.UTF-8",
    )
    with (data / "postgresql.conf").open("a") as settings:
        settings.write(SETTINGS.format(folder=folder) + f"port = {port}\n")
    (data / "pg_hba.conf").write_text(ACCESS)


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start the server as a child of this process."""
    with (folder / "server.log").open("ab") as log:
        command = [str(programs() / "postgres"), "-D", str(folder / "data")]
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder, **account())  # type: ignore[call-overload,no-any-return]


def main(folder: Path, session: int) -> None:
    """Make it, run it, and end it with the session."""
    watched = os.pidfd_open(session)
    try:
        make(folder, int((folder / "port").read_text()))
        server = start(folder)
    except Exception as fault:
        (folder / "failed").write_text(str(fault))
        return
    try:
        own = os.pidfd_open(server.pid)
        (folder / "ready.part").write_text(str(server.pid))
        (folder / "ready.part").rename(folder / "ready")
        select.select([watched, own], [], [])
        server.send_signal(signal.SIGQUIT)  # at once: nothing of it is kept
        server.wait(SECONDS)
    finally:
        if server.poll() is None:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
