"""The rows of elevation in the table of operations."""

from __future__ import annotations

from typing import Any

from keyclave.operations.elevation import alarms, break_glass, elevate, eligible, end, view
from keyclave.operations.forms import Empty
from keyclave.operations.operation import Operation, always
from keyclave.policy.classes import Class


def _change(name: str, path: str, request: type, answer: type, run: Any, summary: str, **more: Any) -> Operation:
    return Operation(name, "POST", path, request, answer, summary, run, changes=True, **more)


OPERATIONS: list[Operation] = [
    _change(
        "eligibility-create", "/v1/eligibilities", eligible.EligibilityRequest, view.EligibilityView, eligible.create,
        "Let a person take on a role for a while when they need it.", status=201, acts_as=eligible.acts_as,
    ),
    Operation(
        "eligibility-list", "GET", "/v1/eligibilities", None, eligible.EligibilityPage,
        "List who may take on which role; who may break the glass is shown to custodians and auditors.",
        eligible.list_eligibilities, query=view.PageQuery, slow=always,
    ),
    _change(
        "eligibility-revoke", "/v1/eligibilities/{eligibility}/revoke", eligible.RevokeRequest, view.EligibilityView,
        eligible.revoke, "Take an eligibility away; what was taken on by it ends at once.", needs_root=False,
    ),
    _change(
        "elevate", "/v1/elevations", elevate.ElevateRequest, view.ElevationView, elevate.elevate,
        "Take on a role one is eligible for, with a reason, for minutes.", status=201,
    ),
    _change(
        "elevate-approved", "/v1/elevations/approved", elevate.ElevateRequest, view.ElevationView, elevate.elevate_approved,
        "Take on a role for which policy asks the approval of others.", status=201,
    ),
    Operation(
        "elevation-list", "GET", "/v1/elevations", None, view.ElevationPage,
        "List elevations: one's own, or everybody's for those who watch over them.", view.list_elevations,
        query=view.PageQuery, needs_root=False, slow=always, self_service=True,
    ),
    _change(
        "elevation-end", "/v1/elevations/{elevation}/end", end.EndElevationRequest, view.ElevationView, end.end,
        "End an elevation early.", needs_root=False, self_service=True,
    ),
    _change(
        "break-glass", "/v1/break-glass", break_glass.BreakGlassRequest, view.ElevationView, break_glass.break_glass,
        "In an emergency: read at once what one is eligible for, seen by every custodian and auditor.", status=201,
    ),
    _change(
        "break-glass-review", "/v1/elevations/{elevation}/review", end.ReviewRequest, view.ElevationView, end.review,
        "Say whether a break-glass was justified; another one of that person waits for it.", needs_root=False,
        classed=Class.BREAK_GLASS_REVIEW,
    ),
    Operation(
        "alarm-list", "GET", "/v1/alarms", None, alarms.AlarmList, "List one's own alarms.", alarms.list_alarms,
        query=alarms.AlarmQuery, needs_root=False, slow=always, self_service=True,
    ),
    _change(
        "alarm-acknowledge", "/v1/alarms/{alarm}/acknowledge", Empty, alarms.AlarmView, alarms.acknowledge,
        "Say that one has seen an alarm.", needs_root=False, self_service=True,
    ),
]  # fmt: skip
