"""What a bundle cannot show and an exported log can: that nothing happened between two events (spec/approvals.md).

The export is verified whole, against the same keys. Then every event from the first enrolment to the end of the request is looked
at that names an approver or what they signed with: a revocation, a suspension, a disabling, a role taken away.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from keyclave_verify.checkpoints import Trust
from keyclave_verify.directory import ENTRIES, LogDirectory, tile_path
from keyclave_verify.events import parse_event
from keyclave_verify.log import verify_log
from keyclave_verify.merkle import WIDTH
from keyclave_verify.report import Fault, Report
from keyclave_verify.walk import split_bundle

_SUSPENDED = ("failures", "sign-count")


@dataclass
class Loss:
    """What made a signature worth nothing, from one place in the log on, until another if it was taken back."""

    what: str  # revoked or disabled
    since: int
    until: int | None = None

    def lasts(self, index: int) -> bool:
        """Tell whether it held at a place in the log."""
        return self.since < index and (self.until is None or self.until > index)


@dataclass
class Signed:
    """A signature that holds: places in the log of it and of the enrolment behind it, by whom, in which roles."""

    index: int
    enrolled: int
    approver: str
    authenticator: str
    roles: frozenset[str]
    lost: list[Loss] = field(default_factory=list)
    roles_taken: bool = False  # whether roles were taken from the approver after it


class History:
    """The events of one export, for one approval. Faults go to `report`."""

    def __init__(self, directory: LogDirectory, trust: Trust, tenant: str, report: Report) -> None:
        self._directory, self._tenant, self._report = directory, tenant, report
        whole = verify_log(directory, trust)
        size = whole.facts.get("size", 0)
        self.size = size if isinstance(size, int) else 0
        self._whole = whole.good
        report.checks["log"] = f"an export of {self.size:,} entries, every one against its hash and the signed root"
        report.checks["revocation"] = None
        report.add(*(Fault("log", fault.code, fault.detail) for fault in whole.faults))

    def holds(self, index: int, entry: bytes, what: str) -> None:
        """Note it where the export has another entry at a place than a receipt, or is too short to have any."""
        if index >= self.size:
            self._report.add(Fault("log", "log_too_short", f"{what} is event {index}, and the export ends before it"))
        elif next(self._entries(index, index + 1), (0, b""))[1] != entry:
            self._report.add(Fault("log", "log_differs", f"{what} is not event {index} of the export"))

    def look(self, signed: Sequence[Signed], end: int | None) -> bool | None:
        """Look at what happened to those who signed; True where nothing else is left to be proved but by the server.

        None for an export that is not whole: what somebody changed in it tells nothing of what happened.
        """
        if not self._whole:
            return None
        self._report.checks["revocation"] = "no authenticator was revoked and nobody disabled whose signature counts"
        last = self.size if end is None else min(end, self.size)
        for index, entry in self._entries(min((one.enrolled for one in signed), default=last), last):
            named = [one for one in signed if _names(entry, one) and index > one.enrolled]
            event = self._read(index, entry) if named else {}
            for one in named if event.get("tenant") == self._tenant else ():
                _note(one, index, event)
        for number, one in enumerate(signed, 1):
            self._judge(one, f"signature {number}", end)
        return not any(one.roles_taken for one in signed)

    def _read(self, index: int, entry: bytes) -> dict[str, Any]:
        try:
            return parse_event(entry)
        except ValueError as error:
            detail = f"event {index} of the export names who signed, and cannot be read: {error}"
            self._report.add(Fault("log", "not_an_event", detail))
            return {}

    def _judge(self, one: Signed, what: str, end: int | None) -> None:
        """Name each loss that held when the signature was given, or when the request ended."""
        for loss in one.lost:
            whose = f"{one.approver} was" if loss.what == "disabled" else f"the authenticator {one.authenticator} was"
            said = f"{what}: {whose} {loss.what} at event {loss.since}"
            if loss.lasts(one.index):
                self._report.add(Fault("revocation", f"{loss.what}_before", f"{said}, before it was given"))
            elif end is not None and loss.lasts(end):
                self._report.add(Fault("revocation", f"{loss.what}_before_end", f"{said}, before the end of the request"))

    def _entries(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield places and entries of the export; what is missing was found when it was verified."""
        there = self._directory.indexes(ENTRIES)  # of what is missing none is looked for: the size may be a forger's
        begin, stop = bisect_left(there, first // WIDTH), bisect_left(there, (end + WIDTH - 1) // WIDTH)
        for bundle in there[begin:stop]:
            width = self._directory.best_width(ENTRIES, bundle, min(WIDTH, self.size - bundle * WIDTH))
            data = self._directory.read(tile_path(ENTRIES, bundle, width))
            for at, entry in enumerate(split_bundle(data or b"")[0][:WIDTH], bundle * WIDTH):
                if first <= at < end:
                    yield at, entry


def _names(entry: bytes, one: Signed) -> bool:
    return json.dumps(one.approver, ensure_ascii=False)[1:-1].encode() in entry or one.authenticator.encode() in entry


def _note(one: Signed, index: int, event: dict[str, Any]) -> None:
    """Note what an event means for whoever signed."""
    detail, op, done = event.get("detail", {}), event.get("op"), event.get("outcome") == "ok"
    person = detail.get("principal")
    suspended = detail.get("alarm") in _SUSPENDED or (done and op == "authenticator-revoke")
    replaced = done and one.authenticator in str(detail.get("replaced", "")).split(",")
    if replaced or (suspended and detail.get("authenticator") == one.authenticator):
        one.lost.append(Loss("revoked", index))
    elif done and op == "person-disable" and person == one.approver:
        one.lost.append(Loss("disabled", index))
    elif done and op == "person-enable" and person == one.approver:
        for loss in one.lost:
            if loss.what == "disabled" and loss.until is None:
                loss.until = index
    elif done and detail.get("take") and one.approver in (person, event.get("actor")) and index > one.index:
        one.roles_taken = True
