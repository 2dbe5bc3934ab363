"""`keyclave-verify approval`: one approval, from its bundle and the log's public keys alone (spec/approvals.md).

    request --SHA-256--> statements --signatures--> approvers' keys --enrolments--> the log
       `------------------ receipts: asked, signed, signed, done ------------------> the log

Nothing that the bundle says of itself is believed: who asked, who signed when and in which role, and what was done is read from
events that receipts prove to be in the log.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from keyclave_verify.approval_events import Logged, Receipts
from keyclave_verify.approval_forms import ENDS, read_bundle, read_request, read_statement
from keyclave_verify.approval_history import History, Signed
from keyclave_verify.approval_items import check_items
from keyclave_verify.approval_proofs import verify_key, verify_passkey
from keyclave_verify.checkpoints import Trust, show_time
from keyclave_verify.directory import LogDirectory
from keyclave_verify.report import Fault, Report

_SECOND = 1_000_000
_OFF = 600 * _SECOND  # between the time in a statement and that of its event: five minutes, and an attempt may take as long


class ApprovalCheck:
    """One verification. `rp_id` and `origins`, where given, are for whom passkeys must have signed."""

    def __init__(self, trust: Trust, rp_id: str | None, origins: tuple[str, ...], log: LogDirectory | None) -> None:
        self.trust = trust
        self.report = Report(trust.origin, "", {"signatures": None, "request": None})
        self._receipts = Receipts(trust, self.report)
        self._rp_id = rp_id
        self._origins = origins
        self._log = log
        self.signed: list[Signed] = []  # the signatures that hold

    def run(self, raw: bytes, label: str) -> Report:
        """Verify a bundle."""
        report = self.report
        try:
            bundle = read_bundle(raw, label, self.trust.origin)
            request, digest = read_request(bundle)
        except Fault as fault:
            report.checks["request"] = "the bundle's form"
            report.add(fault)
            return report
        report.facts = {"approval": request["id"], "operation": request["operation"], "requester": request["requester"]}
        report.facts |= {"request_sha256": digest, "items": request["items"], "status": bundle["status"]}
        shown = f"{request['operation']} of {len(request['items'])} by {request['requester']}: {request['reason']}"
        report.checks["request"] = f"{request['id']}, {shown}, SHA-256 {digest}"
        self._asked(bundle, request, digest)
        if bundle["signatures"]:
            report.checks["approvers"] = (
                f"{len(bundle['signatures'])} signatures over this request, and what the log says of each"
            )
        for number, signature in enumerate(bundle["signatures"], 1):
            self._signed(bundle, request, digest, signature, f"signature {number}")
        end = self._ended(bundle, request, digest)
        self._counted(bundle, request, end)
        self._limits(bundle, None if self._log is None else self._search(self._log, request, end))
        return report

    # ---- the parts ----------------------------------------------------------------------------------------------------
    def _asked(self, bundle: dict[str, Any], request: dict[str, Any], digest: str) -> None:
        logged = self._receipts.logged(bundle["requested"], "request", "the request")
        if logged is not None:
            self._receipts.compare(
                logged, "request", "the request", op="approval-request", outcome="ok", actor=request["requester"],
                approval=request["id"], tenant=request["tenant"], at=request["requested_at"], reason=request["reason"],
                detail_request=digest, detail_asked=request["operation"], detail_items=len(request["items"]),
            )  # fmt: skip

    def _signed(self, bundle: dict[str, Any], request: dict[str, Any], digest: str, signature: Any, what: str) -> None:
        check, before = "approvers", self.report.fault_count
        try:
            text, public, said = read_statement(signature, request, digest)
            if signature["kind"] == "key":
                verify_key(public, text, signature["proof"])
            else:
                verify_passkey(public, text, signature["proof"], self._party(bundle), self._pages(bundle))
        except ValueError as error:
            self.report.add(Fault(check, "signature_wrong", f"{what}: {error}"))
            return
        logged = self._receipts.logged(signature["receipt"], check, what)
        enrolled = self._receipts.logged(signature["enrolment"], "enrolment", f"the enrolment behind {what}")
        if logged is None or enrolled is None:
            return
        approver = said["approver"]
        self._receipts.compare(
            logged, check, what, op="approval-sign", outcome="ok", actor=approver, approval=request["id"],
            tenant=request["tenant"], detail_request=digest, detail_statement=sha256(text).hexdigest(),
            detail_authenticator=said["authenticator"], detail_kind=signature["kind"],
        )  # fmt: skip
        self.report.checks["enrolment"] = "each approver's authenticator was enrolled before it signed"
        self._receipts.compare(
            enrolled, "enrolment", f"the enrolment behind {what}", op="authenticator-enrol", outcome="ok",
            tenant=request["tenant"], detail_principal=approver, detail_kind=signature["kind"],
            detail_authenticator=said["authenticator"],
            detail_public_sha256=sha256(public).hexdigest(),
        )  # fmt: skip
        self._times(request, said, logged, enrolled, what)
        level, asked = enrolled.detail("aal"), request["rule"]["assurance"]
        if type(level) is not int or level < asked:
            self.report.add(Fault("enrolment", "assurance_low", f"{what} proves assurance level {level}, and {asked} was asked"))
        if self.report.fault_count == before:
            roles = frozenset(str(logged.detail("roles")).split(","))
            signed = Signed(
                index=logged.index, enrolled=enrolled.index, approver=approver, authenticator=said["authenticator"], roles=roles,
            )  # fmt: skip
            self.signed.append(signed)

    def _times(self, request: dict[str, Any], said: dict[str, Any], logged: Logged, enrolled: Logged, what: str) -> None:
        at = logged.event["at"]
        if not request["requested_at"] <= at < request["expires_at"]:
            self.report.add(Fault("approvers", "outside_window", f"{what} was given outside the window of the request"))
        if abs(at - said["at"]) > _OFF:
            self.report.add(Fault("approvers", "time_differs", f"{what} names another time than its event"))
        if enrolled.index >= logged.index:
            self.report.add(Fault("enrolment", "enrolled_later", f"the authenticator behind {what} was enrolled later"))

    def _party(self, bundle: dict[str, Any]) -> str:
        return self._rp_id or str(bundle["relying"]["id"])

    def _pages(self, bundle: dict[str, Any]) -> tuple[str, ...]:
        return self._origins or tuple(map(str, bundle["relying"]["origins"]))

    def _ended(self, bundle: dict[str, Any], request: dict[str, Any], digest: str) -> int | None:
        """Check how it ended, and return the place of that in the log (None while it is open)."""
        status = bundle["status"]
        if status == "open":
            if bundle["ended"] is not None or bundle["items"]:
                self.report.add(Fault("end", "end_differs", "the request is said to be open, and an end is shown"))
            return None
        what, by_execute = f"the end ({status})", False
        self.report.checks["end"] = status
        logged = self._receipts.logged(bundle["ended"], "end", what)
        if logged is None:
            return None
        expected: dict[str, Any] = {"outcome": "ok", "approval": request["id"], "tenant": request["tenant"]}
        if status == "executed":
            by_execute = logged.event.get("op") == "approval-execute"
            name = request["operation"].partition(":")[0]
            expected |= {"actor": request["requester"], "op": "approval-execute" if by_execute else name}
            expected |= {"detail_request": digest, "detail_items": len(request["items"])} if by_execute else {}
            if not request["requested_at"] <= logged.event["at"] < request["expires_at"]:
                self.report.add(Fault("end", "outside_window", "it was executed outside the window of the request"))
        else:
            expected["op"] = ENDS[status]
            if (logged.event.get("actor") == request["requester"]) != (status == "withdrawn"):
                self.report.add(Fault("end", "actor_differs", f"a request is not {status} by {logged.event.get('actor')!r}"))
        self._receipts.compare(logged, "end", what, **expected)
        self.report.checks["end"] = f"{status} by {logged.event.get('actor')}, {show_time(logged.event['at'] // _SECOND)}"
        check_items(self._receipts, self.report, bundle, request, logged)
        return logged.index

    def _search(self, directory: LogDirectory, request: dict[str, Any], end: int | None) -> bool | None:
        """Look in an exported log for what happened between the events; True if that leaves nothing open, None if it is none."""
        history = History(directory, self.trust, request["tenant"], self.report)
        for what, logged in self._receipts.proved:
            history.holds(logged.index, logged.entry, what)
        self.report.facts["log_size"] = history.size
        return history.look(self.signed, end)

    def _limits(self, bundle: dict[str, Any], looked: bool | None) -> None:
        """Say what no bundle shows, that something did not happen between two events, and what it says of itself."""
        places = [one.index for one in self.signed]
        if places and looked is False:
            self.report.unproved.append(
                "that who signed kept the role: roles were taken from them meanwhile, and the server looked"
            )
        elif places and looked is None:
            until = "the execution" if bundle["status"] == "executed" else "now"
            self.report.unproved.append(
                f"that until {until} no approver was disabled or lost the role, and no authenticator was revoked: the server "
                "looked at it; to look again, give an exported log (--log DIR), or search one for person-disable, person-roles "
                f"and authenticator-revoke after event {min(places)}"
            )
        if any(one["kind"] == "passkey" for one in bundle["signatures"]) and not (self._rp_id and self._origins):
            self.report.unproved.append("for whom passkeys signed: the bundle says it itself; give --rp-id and --origin")

    def _counted(self, bundle: dict[str, Any], request: dict[str, Any], end: int | None) -> None:
        rule = request["rule"]
        counted: dict[str, None] = {}
        for index, name, roles in ((one.index, one.approver, one.roles) for one in self.signed):
            if name == request["requester"]:
                self.report.add(Fault("count", "requester_signed", f"{name} asked for it, and signed it"))
            elif not roles.intersection(rule["roles"]):
                self.report.add(Fault("count", "role_missing", f"{name} held none of {', '.join(rule['roles'])} when signing"))
            elif name in counted:
                self.report.add(Fault("count", "signed_twice", f"{name} is counted once, and signed twice"))
            elif end is None or index < end:
                counted[name] = None
        names = ", ".join(counted) or "nobody"
        enough = len(counted) >= rule["count"]
        self.report.checks["count"] = f"{len(counted)} of {rule['count']} of {', '.join(rule['roles'])}: {names}"
        self.report.facts |= {"approvers": list(counted), "needed": rule["count"], "approved": enough}
        if bundle["status"] == "executed" and not enough:
            self.report.add(Fault("count", "not_enough", f"it was executed with {len(counted)} of {rule['count']} approvers"))
        said = {"executed": f"Approved by {names}, and executed.", "denied": "The request was denied: it approves nothing."}
        said |= {"withdrawn": "The request was withdrawn: it approves nothing."}
        still = f"Approved by {names}, and not executed yet." if enough else "Not approved yet: signatures are missing."
        self.report.verdict = said.get(bundle["status"], still)


def verify_approval(
    raw: bytes,
    label: str,
    trust: Trust,
    *,
    rp_id: str | None = None,
    origins: tuple[str, ...] = (),
    log: LogDirectory | None = None,
) -> Report:
    """Verify a bundle and report; with an exported `log`, also that nothing between its events took a signature's worth."""
    return ApprovalCheck(trust, rp_id, origins, log).run(raw, label)
