"""The items of an approval: that each of what was approved was done, on what it was approved for, and with which outcome.

An event need not name what it was done on, so its place says which item it is of: the events of the items follow that of the
execution directly, in the order in which they were approved. Else one item's event, shown twice, would hide that another failed.
"""

from __future__ import annotations

from typing import Any

from keyclave_verify.approval_events import Logged, Receipts
from keyclave_verify.report import Fault, Report

_PERSON = "person-"  # operations whose path names a person, and whose events do in `detail.principal`


def check_items(receipts: Receipts, report: Report, bundle: dict[str, Any], request: dict[str, Any], end: Logged) -> None:
    """Check the items of a request that ended with the event `end`."""
    items, asked = bundle["items"], request["items"]
    if bundle["status"] == "executed" and end.event.get("op") == "approval-execute":
        if len(items) == len(asked):
            _check_list(receipts, report, bundle, request, end)
        else:
            report.add(Fault("items", "items_differ", f"{len(asked)} items were approved, {len(items)} are shown"))
        return
    if items or (bundle["status"] == "executed" and len(asked) != 1):
        report.add(Fault("items", "items_differ", "the items are not those that were approved"))
    if bundle["status"] == "executed" and len(asked) == 1:
        _check_thing(report, end, asked[0], "the execution")


def _check_list(receipts: Receipts, report: Report, bundle: dict[str, Any], request: dict[str, Any], end: Logged) -> None:
    report.checks["items"] = f"{len(bundle['items'])} events behind that of the execution"
    operation, outcomes, before = request["operation"].partition(":")[0], [], end
    for number, (receipt, item) in enumerate(zip(bundle["items"], request["items"], strict=True), 1):
        what = f"item {number}"
        logged = receipts.logged(receipt, "items", what)
        if logged is None:
            return  # the place of those that follow is counted from it
        receipts.compare(logged, "items", what, op=operation, actor=request["requester"], approval=request["id"])
        if not logged.stands_behind(before) or logged.event.get("part", 1) != 1:
            behind = "the execution" if before is end else f"item {number - 1}"
            report.add(Fault("items", "items_apart", f"{what} is event {logged.index}, which is not the one behind {behind}"))
        _check_thing(report, logged, item, what)
        outcomes.append(f"{item.get('label') or item.get('ref') or request['operation']}: {logged.event.get('outcome')}")
        before = logged
    if not report.failed["items"]:  # an outcome under another item's name is worse than none
        report.checks["items"] = "; ".join(outcomes)
        report.facts["outcomes"] = outcomes


def _check_thing(report: Report, logged: Logged, item: dict[str, Any], what: str) -> None:
    """Compare what an event names with what the item is for. One that failed early may name nothing."""
    ref, event = item.get("ref", ""), logged.event
    if ref.startswith("key_") and event.get("key", ref) != ref:
        report.add(Fault("items", "key_differs", f"{what} was done on {event.get('key')}, not on {ref}"))
    named = logged.detail("principal") if event.get("op", "").startswith(_PERSON) else None
    if named not in (None, ref):
        report.add(Fault("items", "principal_differs", f"{what} was done on {named}, not on {ref}"))
