"""The operations of workloads."""

from __future__ import annotations

from keyclave.operations.operation import Operation, always
from keyclave.operations.workloads import register

OPERATIONS: list[Operation] = [
    Operation(
        "workload-register", "POST", "/v1/workloads", register.RegisterRequest, register.WorkloadView,
        "Register a workload and what it may do.", register.register, changes=True, status=201, needs_root=False,
    ),
    Operation(
        "workload-update", "PATCH", "/v1/workloads/{workload}", register.WorkloadUpdate, register.WorkloadView,
        "Change a workload's scope, disable it, or enable it again.", register.update, changes=True, needs_root=False,
    ),
    Operation(
        "workload-list", "GET", "/v1/workloads", None, register.WorkloadPage, "List workloads.", register.list_workloads,
        query=register.WorkloadQuery, needs_root=False, slow=always,
    ),
]  # fmt: skip
