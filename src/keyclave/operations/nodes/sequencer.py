"""The sequencer: gives every event that a node has kept its place in the one log, and grows the log's tree over them.

One node does it at a time, the holder of the lease `sequencer`. Its fence grows with each holder, and is asked inside the very
transaction that writes places: whoever comes late with an older one writes nothing. The tables would refuse it as well, for no
place and no event occurs in them twice.

    look -> journals beyond what has a place -> their order -> one transaction: places, full tiles, the fence -> the tree grows

After any fault the sequencer is thrown away, and the next one begins from what the database says.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

import msgspec
from sqlalchemy import Connection

from keyclave.audit.event import decode
from keyclave.audit.tree import Tree
from keyclave.core.errors import Broken
from keyclave.crypto.digest import leaf_hash
from keyclave.operations.nodes.placing import Row, in_order
from keyclave.operations.stored_log import check_signed, check_tiles, first_to_grow, missing, rebuilt
from keyclave.store import log_rows, places, sequence
from keyclave.store.entries import unpack_row
from keyclave.store.nodes import hold_lease, read_nodes

logger = logging.getLogger("keyclave.nodes")

LEASE = "sequencer"
_BREATH = 64  # events hashed before the event loop may have its turn
_TAIL = 4096
_RECENT = 3_600_000_000  # microseconds: nodes seen since are looked at each time, all others now and then
_EVERYBODY_SECONDS = 60.0


class Sequencer:
    """One term of a sequencer, from taking the lease to the first fault."""

    def __init__(self, conn: Connection, holder: str, fence: int, lease: int) -> None:
        """Begin from the database; `lease` is the lease's length in microseconds."""
        self._lease = (LEASE, holder, fence, lease)
        self._conn = conn
        self._placed: dict[str, int] = {}
        self._unreadable: set[str] = set()  # journals that hold what is no event
        self._backlog: dict[str, int] = {}
        self._looked = float("-inf")
        self.behind = False  # whether more waits than one look takes
        head = places.head(conn)
        kept = log_rows.last_checkpoint(conn)
        self.signed = 0 if kept is None else kept[0]
        self._tree = self._found(head)
        if kept is not None:
            check_signed(kept[0], kept[1], self._tree, self._stored)
        # No checkpoint is dated before an event that it covers, though a node whose clock is ahead dated that event.
        self.newest = log_rows.last_signed_at(conn)
        for first in range(self.signed, head, _TAIL):
            self._saw(places.read_log(conn, first, min(_TAIL, head - first)))

    def _found(self, head: int) -> Tree:
        """Return the tree of the `head` events that have a place."""
        begin = first_to_grow(lambda level: log_rows.last_tile(self._conn, level), head, self.signed)
        self._tree = Tree.restore(begin, lambda *at: rebuilt(self._stored, *at))
        grown: dict[tuple[int, int], bytes] = {}
        while self._tree.size < head:
            entries = places.read_log(self._conn, self._tree.size, min(_TAIL, head - self._tree.size))
            if not entries:
                raise missing(self._tree.size, head)
            grown |= self._grow(entries)
        check_tiles(grown, lambda *place: log_rows.read_tile(self._conn, *place))
        return self._tree

    def _stored(self, level: int, number: int) -> bytes:
        tile = log_rows.read_tile(self._conn, level, number)
        if tile is None:
            raise Broken(f"tile {number} of level {level} is missing", "keep the database as evidence, and restore a backup")
        return tile

    @property
    def size(self) -> int:
        """How many events have a place."""
        return self._tree.size

    def root(self) -> bytes:
        """Return the tree's root."""
        return self._tree.root()

    def look(self) -> int:
        """Place what is there and has no place yet; return how many events that were."""
        conn = self._conn
        found = sequence.read_unplaced(conn, self._journals())
        rows = self._readable(found)
        read = Counter(row[0] for row in found)
        self.behind = max(read.values(), default=0) >= sequence.ROWS
        if not rows:
            return 0
        ordered = in_order(rows, self._placed)
        before = self._tree.size
        given: list[tuple[int, int, str, int]] = []
        tiles: dict[tuple[int, int], bytes] = {}
        for row in ordered:
            given.append((self._tree.size, row.number, row.node, row.first))
            tiles |= self._grow(row.entries)
        self._keep(lambda: sequence.place(conn, self._lease, given, tiles))
        for row in ordered:
            self._placed[row.node] = row.first + row.number
            self.newest = max(self.newest, row.latest)
        return self._tree.size - before

    def _readable(self, found: list[tuple[str, int, int, bytes]]) -> list[Row]:
        """Take rows apart. A journal that holds what no node writes stops there, for this term, and none of the others."""
        rows = []
        for node, first, number, packed in found:
            if node in self._unreadable:
                continue
            try:
                entries = unpack_row(packed, number)
                dates = list(map(_date, entries))
                rows.append(Row(node, first, number, min(dates), entries, max(dates)))
            except (ValueError, msgspec.DecodeError):
                self._unreadable.add(node)
                logger.error(
                    "the journal of node %s holds at %d what no node writes: nothing of it from there on gets a place. Keep the "
                    "database as evidence, find out who else writes to it, and change the password of its user", node, first,
                )  # fmt: skip
        return rows

    def _saw(self, leaves: list[bytes]) -> None:
        self.newest = max([self.newest, *map(_date, leaves)])

    def sign(self, note: str, size: int, root: bytes, at: int) -> None:
        """Keep the checkpoint of that size."""
        self._keep(lambda: sequence.keep_signed(self._conn, self._lease, size, root, note, at))
        self.signed = size

    def hold(self) -> None:
        """Prolong the lease while there is nothing to place."""
        if not hold_lease(self._conn, *self._lease):
            raise sequence.LostLease

    def _journals(self) -> dict[str, int]:
        """Return which journals to look into, and from where."""
        nodes = read_nodes(self._conn)
        newest = max((node.seen_at for node in nodes), default=0)
        names = {node.id for node in nodes if node.seen_at > newest - _RECENT}
        spools = {node.spool for node in nodes if node.spool and node.seen_at > newest - _RECENT}
        if spools - self._placed.keys():  # a spool was placed, and perhaps others that no row names any more
            self._looked = float("-inf")
        names.update(spools)
        if time.monotonic() - self._looked > _EVERYBODY_SECONDS:
            self._looked = time.monotonic()
            self._backlog = sequence.read_backlog(self._conn)
        names.update(self._backlog)
        for name in names - self._placed.keys():
            self._placed[name] = sequence.read_placed(self._conn, name)
        return {name: self._placed[name] for name in sorted(names - self._unreadable)}

    def _grow(self, leaves: list[bytes]) -> dict[tuple[int, int], bytes]:
        tiles = {}
        for number, entry in enumerate(leaves):
            for tile in self._tree.append(leaf_hash(entry)):
                tiles[tile.level, tile.index] = tile.data
            if number % _BREATH == _BREATH - 1:
                time.sleep(0)  # lets go of the interpreter's lock
        return tiles

    def _keep(self, write: Callable[[], None]) -> None:
        self._conn.exec_driver_sql("BEGIN")
        try:
            write()
            self._conn.exec_driver_sql("COMMIT")
        except BaseException:
            if not self._conn.closed:
                self._conn.exec_driver_sql("ROLLBACK")
            raise


def _date(leaf: bytes) -> int:
    """Return when it happened. It is read whole: what no reader of the record could read gets no place in it."""
    return decode(leaf).at
