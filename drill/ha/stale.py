"""Reading through the death of the database: one key allows it, another does not, and every node is asked for both all the time.

Held last, for it gives the nodes spools: from then on a change waits longer for a node that is silent.
"""

from __future__ import annotations

import base64
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from drill.ha.fleet import Fleet, Node
from drill.ha.traffic import KEY

WARD = "drill-ward"
STALE_SECONDS = 120  # longer than any other member needs to take over
_PLAIN = b"what the ward reads"


@dataclass
class Read:
    """What the readers were answered."""

    events: dict[str, str] = field(default_factory=dict)  # event -> key
    times: list[float] = field(default_factory=list)  # of each answer with the key that allows it
    wrong: list[str] = field(default_factory=list)


class Readers:
    """A reader for each node. Each asks with both keys, one after the other, whatever it is answered."""

    def __init__(self, fleet: Fleet, token: str) -> None:
        self.read = Read()
        self._fleet, self._token = fleet, token
        with fleet.client(fleet.nodes[0], token, 30) as client:
            self._sealed = {key: base64.b64encode(client.encrypt(key, _PLAIN).ciphertext).decode() for key in (WARD, KEY)}
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(node,), daemon=True) for node in fleet.nodes]

    def start(self) -> None:
        """Set them going."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> Read:
        """End them, each with its last answer."""
        self._end.set()
        for thread in self._threads:
            thread.join()
        return self.read

    def _run(self, node: Node) -> None:
        context = ssl.create_default_context(cafile=self._fleet.ca_file)
        headers = {"authorization": f"Bearer {self._token}"}
        with httpx.Client(base_url=node.url, verify=context, headers=headers, timeout=10, trust_env=False) as http:
            while not self._end.is_set():
                for key in (WARD, KEY):
                    try:
                        got = http.post(f"/v1/keys/{key}/decrypt", json={"ciphertext": self._sealed[key]})
                    except httpx.TransportError:
                        continue
                    self._take(node, key, got)
                self._end.wait(0.01)

    def _take(self, node: Node, key: str, got: httpx.Response) -> None:
        with self._lock:
            if got.status_code == 200:
                self.read.events[got.json()["event"]] = key
                if key == WARD:
                    self.read.times.append(time.monotonic())
                if base64.b64decode(got.json()["plaintext"]) != _PLAIN:
                    self.read.wrong.append(f"{node.name} opened a ciphertext to something else")
            elif got.status_code != 503:
                self.read.wrong.append(f"{node.name} answered {got.status_code}: {got.text[:200]}")


def look(read: Read, stale: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return what is wrong with what was read. `stale`: operation and key of each event in the log that says it was stale."""
    ward = {event for event, key in read.events.items() if key == WARD}
    found = list(read.wrong)
    if not ward & stale.keys():
        found.append("nothing was decrypted while the database was away")
    ids = {key for event, (_, key) in stale.items() if event in ward}
    for event, (operation, key) in stale.items():
        if operation != "decrypt" or key not in ids:
            found.append(f"{event} is stale, and is {operation} with {key}")
    return found
