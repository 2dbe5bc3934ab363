"""A store with a million keys beside one with a thousand: to create one more, to look one up for the first time, a page of the list,
and the start. None may depend on how many there are.

The keys are made by the product itself, in this process, without HTTP and without syncing; then the same installation is moved to
PostgreSQL by `keyclave migrate-store`, which decrypts with each of them, and measured there again.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.database import database_server, new_database
from bench.ours import ENVIRONMENT, Keyclave
from bench.table import Row, at_most
from tests.store.inside import open_inside

FEW = 1_000
SAMPLES = 400
STARTS = 3
_GROUP = 512
ENGINES = "SQLite", "PostgreSQL"


@dataclass(frozen=True)
class Seen:
    """Milliseconds (medians) of one home, and the MiB that its server had resident at the end."""

    create: float
    look_up: float
    first_use: float
    page: float
    start: float
    rss: float


@dataclass(frozen=True)
class Pair:
    """What a thousand keys and many gave on one engine, and the seconds that the filling (or the move) took."""

    few: Seen
    many: Seen
    filled_in: float


def measure(folder: Path, many: int, say: Callable[[str], None]) -> dict[str, Pair]:
    """Measure both sizes on both engines."""
    homes = {count: Keyclave(folder, f"keys-{count}", tls=False) for count in (FEW, many)}
    filled = {count: fill(home, count, say) for count, home in homes.items()}
    seen = _look(homes)
    pairs = {"SQLite": Pair(seen[FEW], seen[many], filled[many])}
    with database_server() as server:
        moved = {}
        for count, home in homes.items():
            say(f"moving {count:,} keys to PostgreSQL")
            moved[count] = _move(home, new_database(server, f"keys{count}").url())
            with server.connect(f"keys{count}") as conn:
                conn.execute("ANALYZE")  # as its own housekeeping does within a minute
        seen = _look(homes)
        pairs["PostgreSQL"] = Pair(seen[FEW], seen[many], moved[many])
    return pairs


def fill(home: Keyclave, count: int, say: Callable[[str], None]) -> float:
    """Make keys in a home whose server is not running; return the seconds that it took."""
    say(f"making {count:,} keys")
    began = time.monotonic()
    with open_inside(home.home, home.made["shares"], home.made["credentials"]) as inside:
        inside.store.line.raw.execute("PRAGMA synchronous = OFF")
        for first in range(0, count, _GROUP):
            answers = []
            for number in range(first, min(first + _GROUP, count)):
                answers.append(inside.begin("key-create", "custodian", "", {"name": name_of(number), "owner": "bench"}))
            inside.store.flush()
            for (attempt,) in answers:
                if attempt.error is not None:
                    raise attempt.error
    return time.monotonic() - began


def name_of(number: int) -> str:
    """Return the name of a key: the numbers spread over the alphabet, as names do."""
    return f"k{number * 2_654_435_761 % 2**32:08x}-{number}"


def _move(home: Keyclave, url: str) -> float:
    """Move a home to a database; return the seconds."""
    shares = home.home.with_suffix(".shares")
    shares.write_text("\n".join(home.made["shares"]) + "\n")
    shares.chmod(0o600)
    command = [
        sys.executable,
        "-m",
        "keyclave.app",
        "migrate-store",
        "--home",
        str(home.home),
        "--to",
        url,
        "--shares",
        str(shares),
    ]
    began = time.monotonic()
    subprocess.run(command, check=True, env={**os.environ, **ENVIRONMENT}, stdin=subprocess.DEVNULL, capture_output=True)
    return time.monotonic() - began


class _Asked:
    """A running server and a connection to it that stays open; `times` are the milliseconds of each kind of question."""

    def __init__(self, home: Keyclave, count: int) -> None:
        self._line = http.client.HTTPConnection("localhost", home.port, timeout=30)
        self._credentials = home.made["credentials"]
        scope = {"operations": ["encrypt"], "keys": ["*"]}
        asked = {"principal": "bench", "role": "application", "ttl_seconds": 36_000, "scope": scope}
        self._token = self.ask("POST", "/v1/credentials", "operator", asked)[1]["token"]
        chance = random.Random(7)
        chosen = chance.sample(range(count), min(count, 2 * SAMPLES))
        self._names = [name_of(number) for number in chosen]
        self._tag = f"{time.time_ns():x}"
        self._cursor = ""
        self.times: dict[str, list[float]] = {"create": [], "look_up": [], "first_use": [], "page": []}

    def ask(self, method: str, path: str, who: str, body: Any = None) -> tuple[float, Any]:
        """Ask, insist on success, and return the milliseconds and the answer."""
        token = self._credentials.get(who, who)
        headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
        began = time.perf_counter()
        self._line.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self._line.getresponse()
        content = answer.read()
        took = (time.perf_counter() - began) * 1000
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {content!r}")
        return took, json.loads(content)

    def create(self) -> float:
        """One more key."""
        name = f"new-{self._tag}-{len(self.times['create'])}"
        return self.ask("POST", "/v1/keys", "custodian", {"name": name, "owner": "bench"})[0]

    def look_up(self) -> float:
        """The metadata of a key that this server has not seen yet."""
        return self.ask("GET", f"/v1/keys/{self._names[len(self.times['look_up'])]}", "custodian")[0]

    def first_use(self) -> float:
        """Encrypt with another such key: it has to be found, unwrapped and remembered."""
        name = self._names[SAMPLES + len(self.times["first_use"])]
        return self.ask("POST", f"/v1/keys/{name}/encrypt", self._token, {"plaintext": "AAAA"})[0]

    def page(self) -> float:
        """The next hundred of the list."""
        took, answer = self.ask("GET", f"/v1/keys?limit=100{self._cursor}", "custodian")
        self._cursor = f"&cursor={answer['cursor']}" if answer.get("cursor") else ""
        return took


def _look(homes: dict[int, Keyclave]) -> dict[int, Seen]:
    """Ask both in turn, so that a noisy moment hits both."""
    starts: dict[int, list[float]] = {count: [] for count in homes}
    for _ in range(STARTS):
        for count, home in homes.items():
            starts[count].append(home.start() * 1000)
            home.stop()
    with ExitStack() as stack:
        asked = {}
        for count, home in homes.items():
            stack.callback(home.stop)
            home.start()
            home.unseal()
            asked[count] = _Asked(home, count)
        for kind in ("create", "look_up", "first_use", "page"):
            for _ in range(SAMPLES):
                for one in asked.values():
                    one.times[kind].append(getattr(one, kind)())
        return {
            count: Seen(
                **{kind: median(times) for kind, times in asked[count].times.items()},
                start=median(starts[count]),
                rss=home.rss_mib(),
            )
            for count, home in homes.items()
        }


def rows(pairs: dict[str, Pair], many: int) -> list[Row]:
    """Return each figure of many keys divided by that of a thousand."""
    found = []
    for engine, pair in pairs.items():
        filled = f"{'filled' if engine == 'SQLite' else 'moved there by migrate-store, each key decrypted with,'} in {pair.filled_in:.0f} s"
        for what in ("create", "look_up", "first_use", "page", "start"):
            few, lots = getattr(pair.few, what), getattr(pair.many, what)
            how = f"{engine}, {many:,} keys {lots:.2f} ms, {FEW:,} keys {few:.2f} ms, medians, one connection, no TLS; {filled}"
            found.append(Row(f"keys_{what}_{engine.lower()}", lots / few, f"of {FEW:,} keys'", how, target=at_most(1.3)))
        how = f"{engine}, after {SAMPLES} look-ups and {SAMPLES} first uses; with {FEW:,} keys {pair.few.rss:.0f} MiB"
        found.append(Row(f"keys_rss_MiB_{engine.lower()}", pair.many.rss, "MiB", how, target=at_most(160e6 / 2**20)))
    return found
