#!/usr/bin/python3
"""Gives the primary's place away before its disk is full: run by keyclave-disk-guard.service beside Patroni on each member.

Why: PostgreSQL whose data disk is full refuses every write, yet stays up, and Patroni goes on calling it a healthy primary; only
when the write-ahead log itself cannot grow does it crash and a standby take over. So this program looks at the free space every
few seconds, and where the member is the primary and the space is short, asks Patroni for a planned switch to a standby, which
loses nothing. It needs nothing but Python's standard library and the member's own patroni.yml values, given as arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
import sys
import threading
import urllib.error
import urllib.request
from typing import Any


def short(path: str, percent: float) -> bool:
    """Tell whether less than so many percent of the file system below `path` are free for its owner."""
    found = os.statvfs(path)
    return found.f_bavail * 100 < found.f_blocks * percent


class Patroni:
    """The member's own REST interface."""

    def __init__(self, url: str, ca: str, certificate: str, key: str) -> None:
        self._url = url
        self._context = ssl.create_default_context(cafile=ca)
        self._context.load_cert_chain(certificate, key)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
        """Return status and text of an answer; raise OSError when there is none."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data)  # noqa: S310 - the operator's own address
        try:
            with urllib.request.urlopen(request, context=self._context, timeout=60 if body else 5) as answer:  # noqa: S310
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode(errors="replace")


def look(patroni: Patroni, name: str, data: str, percent: float) -> str:
    """Look once; return what was done, for the journal, or nothing."""
    if not short(data, percent):
        return ""
    status, _ = patroni.ask("/primary")
    if status != 200:
        return ""  # a standby with a full disk falls behind and out of the quorum by itself
    status, text = patroni.ask("/switchover", {"leader": name})
    return f"less than {percent:g} % of {data} are free: asked for a switch, Patroni says {status} {text.strip()[:200]}"


def main() -> int:
    """Look until the service is stopped."""
    parser = argparse.ArgumentParser(description="Give the primary's place away when its disk runs full.")
    parser.add_argument("--name", required=True, help="the member's name in patroni.yml")
    parser.add_argument("--url", required=True, help="its restapi.connect_address, as https://ADDRESS:8008")
    parser.add_argument("--data", required=True, help="its postgresql.data_dir")
    parser.add_argument("--cacert", required=True)
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--percent", type=float, default=5.0, help="least free space (5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="between two looks (5)")
    chosen = parser.parse_args()
    patroni = Patroni(chosen.url, chosen.cacert, chosen.cert, chosen.key)
    pause = threading.Event()
    while not pause.wait(chosen.seconds):
        try:
            said = look(patroni, chosen.name, chosen.data, chosen.percent)
        except OSError as fault:
            said = f"cannot look: {fault}"
        if said:
            print(said, file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
