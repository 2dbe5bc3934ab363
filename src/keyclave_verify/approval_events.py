"""The events behind an approval: what its receipts prove to be in the log, each at its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keyclave_verify.checkpoints import Checkpoint, Trust, show_time, signature_faults
from keyclave_verify.events import NUMBER, parse_event
from keyclave_verify.merkle import inclusion_holds, leaf_hash
from keyclave_verify.reading import decode_base64, fits
from keyclave_verify.receipts import parse_proof
from keyclave_verify.report import Fault, Report

_RECEIPT = {"event": str, "index": int, "leaf": str, "proof": str}


@dataclass(frozen=True)
class Logged:
    """An event that a receipt proves, and its place in the log."""

    index: int
    event: dict[str, Any]
    entry: bytes

    def detail(self, name: str) -> Any:
        """Return a value of the event's detail, or None."""
        return self.event.get("detail", {}).get(name)

    def stands_behind(self, other: Logged) -> bool:
        """Tell whether it is the next attempt's event in the log, by its place and by its node's numbers.

        An attempt may leave several events, of which a receipt shows the first: then it is only later.
        """
        step = self.index - other.index
        (node, number), (before, earlier) = self.numbered, other.numbered
        return node == before and number - earlier == step and (step == 1 or (step > 1 and "part" in other.event))

    @property
    def numbered(self) -> tuple[str, int]:
        """Return the node that wrote it, and its number there; -1 for an id that is none."""
        node, _, digits = str(self.event["id"]).rpartition("-")
        return node, int(digits) if NUMBER.fullmatch(digits.encode()) else -1


class Receipts:
    """Reads receipts. What one lacks is a fault of `report`; what they prove is kept in `proved`, with what it was called."""

    def __init__(self, trust: Trust, report: Report) -> None:
        self._trust = trust
        self._report = report
        self._dated: list[int] = []
        self.proved: list[tuple[str, Logged]] = []

    def logged(self, receipt: Any, check: str, what: str) -> Logged | None:
        """Return the event that a receipt proves, or note why it proves none."""
        try:
            found = self._prove(receipt, check, what)
        except Fault as fault:
            self._report.add(fault)
            return None
        except ValueError as error:
            self._report.add(Fault(check, "receipt_malformed", f"{what}: {error}"))
            return None
        self.proved.append((what, found))
        return found

    def _prove(self, receipt: Any, check: str, what: str) -> Logged:
        if not fits(receipt, _RECEIPT):
            raise Fault(check, "receipt_malformed", f"{what}: there is no whole receipt")
        entry = decode_base64(receipt["leaf"])
        proof = parse_proof(receipt["proof"], what)
        self._look_at_signatures(proof.checkpoint)
        self._report.checks["inclusion"] = "every event by its receipt"
        if not inclusion_holds(leaf_hash(entry), proof.index, proof.checkpoint.size, proof.hashes, proof.checkpoint.root):
            raise Fault("inclusion", "not_included", f"{what}: its event is not in the log that was signed")
        event = parse_event(entry)
        if (receipt["index"], receipt["event"]) != (proof.index, event["id"]):
            raise Fault(check, "receipt_differs", f"{what}: the receipt is for another event than it says")
        return Logged(proof.index, event, entry)

    def _look_at_signatures(self, checkpoint: Checkpoint) -> None:
        self._report.add(*signature_faults(checkpoint, self._trust))
        dated = checkpoint.time(self._trust)
        covered = "every receipt's checkpoint by " + ", ".join(map(str, self._trust.keys))
        if dated is not None:
            self._dated.append(dated)
        if self._dated:
            self._report.facts["time"] = min(self._dated)
            covered += f", dated from {show_time(min(self._dated))}"
        self._report.checks["signatures"] = covered

    def compare(self, logged: Logged, check: str, what: str, **expected: Any) -> None:
        """Note every field of an event that is not what it must be; `detail_` before a name looks for it in the detail."""
        for name, value in expected.items():
            inner = name.removeprefix("detail_")
            found = logged.detail(inner) if name != inner else logged.event.get(name)
            if found != value:
                self._report.add(Fault(check, f"{name}_differs", f"{what}: the log says {inner} {found!r}, not {value!r}"))
