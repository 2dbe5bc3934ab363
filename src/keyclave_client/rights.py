"""Rights that are given for a purpose and end: grants of keys' uses, roles taken on for a while, break-glass and its review."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from keyclave_client import rights_views as views
from keyclave_client.answers import decode, part
from keyclave_client.transport import Request, Transport


class Rights:
    """Giving, taking on, ending, reviewing. Every change carries an Idempotency-Key, so repeating one does it once."""

    _transport: Transport

    # ---- grants -----------------------------------------------------------------------------------------------------------
    def create_grant(
        self, grantee: str, operations: Sequence[str], keys: Sequence[str], ttl_seconds: int, *,
        context: Mapping[str, Sequence[str]] | None = None, delegate: bool = False, exact: bool = False,
        networks: Sequence[str] = (), parent: str | None = None, purposes: Sequence[str] = (), reason: str = "",
        uses: int | None = None,
    ) -> views.Grant:  # fmt: skip
        """Grant an application uses of keys, or give part of one's own grant (`parent`) on."""
        body: dict[str, Any] = {
            "grantee": grantee, "operations": list(operations), "keys": list(keys), "ttl_seconds": ttl_seconds,
            "context": {name: list(values) for name, values in (context or {}).items()}, "delegate": delegate, "exact": exact,
            "networks": list(networks), "purposes": list(purposes), "reason": reason,
        }  # fmt: skip
        body |= {name: value for name, value in (("parent", parent), ("uses", uses)) if value is not None}
        return decode(views.Grant, self._tell("/v1/grants", body))

    def list_grants(self, *, grantee: str = "", live: bool = False) -> Iterator[views.Grant]:
        """Yield grants: of the tenant, or, for an application, those it gave or holds."""
        query = {name: value for name, value in (("grantee", grantee), ("live", "true" if live else "")) if value}
        for item in self._all("/v1/grants", "grants", query):
            yield decode(views.Grant, item)

    def get_grant(self, grant: str) -> views.Grant:
        """Return one grant."""
        return decode(views.Grant, self._look(f"/v1/grants/{_quoted(grant)}"))

    def retire_grant(self, grant: str, reason: str = "") -> views.Grant:
        """Hand back a grant one holds; what was given on from it ends with it."""
        return decode(views.Grant, self._tell(f"/v1/grants/{_quoted(grant)}/retire", {"reason": reason}))

    def revoke_grant(self, grant: str, reason: str = "") -> views.Grant:
        """Take a grant away: when this returns, it permits nothing, nor does any that was given on from it."""
        return decode(views.Grant, self._tell(f"/v1/grants/{_quoted(grant)}/revoke", {"reason": reason}))

    # ---- roles for a while ------------------------------------------------------------------------------------------------
    def create_eligibility(
        self, principal: str, role: str, *, days: int = 90, keys: Sequence[str] = (), operations: Sequence[str] = (),
        reference: bool = True, reason: str = "",
    ) -> views.Eligibility:  # fmt: skip
        """Let a person take on a role when they need it; `keys`, `operations` and `reference` are of `break-glass`."""
        body: dict[str, Any] = {"principal": principal, "role": role, "days": days, "reference": reference, "reason": reason}
        body |= {name: list(values) for name, values in (("keys", keys), ("operations", operations)) if values}
        return decode(views.Eligibility, self._tell("/v1/eligibilities", body))

    def list_eligibilities(self) -> Iterator[views.Eligibility]:
        """Yield who may take on which role."""
        for item in self._all("/v1/eligibilities", "eligibilities", {}):
            yield decode(views.Eligibility, item)

    def revoke_eligibility(self, eligibility: str, reason: str = "") -> views.Eligibility:
        """Take an eligibility away; what was taken on by it ends at once."""
        return decode(views.Eligibility, self._tell(f"/v1/eligibilities/{_quoted(eligibility)}/revoke", {"reason": reason}))

    def elevate(self, role: str, reason: str, minutes: int | None = None) -> views.Elevation:
        """Take on a role; it belongs to the credential or session that asks."""
        body = {"role": role, "reason": reason} | ({} if minutes is None else {"minutes": minutes})
        return decode(views.Elevation, self._tell("/v1/elevations", body))

    def list_elevations(self) -> Iterator[views.Elevation]:
        """Yield elevations, newest first: one's own, or everybody's for those who watch over them."""
        for item in self._all("/v1/elevations", "elevations", {}):
            yield decode(views.Elevation, item)

    def end_elevation(self, elevation: str, reason: str = "") -> views.Elevation:
        """End an elevation early."""
        return decode(views.Elevation, self._tell(f"/v1/elevations/{_quoted(elevation)}/end", {"reason": reason}))

    # ---- break-glass ------------------------------------------------------------------------------------------------------
    def break_glass(self, reason: str, reference: str = "", minutes: int | None = None) -> views.Elevation:
        """In an emergency, read what one is eligible for: every custodian and auditor is told at once.

        `reference`: the patient or encounter, exactly as the encryption contexts of the records hold it.
        """
        body = {"reason": reason, "reference": reference} | ({} if minutes is None else {"minutes": minutes})
        return decode(views.Elevation, self._tell("/v1/break-glass", body))

    def review_break_glass(self, elevation: str, verdict: str, notes: str) -> views.Elevation:
        """Say whether somebody else's break-glass was `justified` or `unjustified`, and why."""
        body = {"verdict": verdict, "notes": notes}
        return decode(views.Elevation, self._tell(f"/v1/elevations/{_quoted(elevation)}/review", body))

    def list_alarms(self, *, everything: bool = False) -> list[views.Alarm]:
        """Return one's own alarms, newest first; `everything`: those that were acknowledged too."""
        page = self._look("/v1/alarms", {"all": "true"} if everything else {})
        return [decode(views.Alarm, item) for item in part(page, "alarms")]

    def acknowledge_alarm(self, alarm: str) -> views.Alarm:
        """Say that one has seen an alarm."""
        return decode(views.Alarm, self._tell(f"/v1/alarms/{_quoted(alarm)}/acknowledge", {}))

    # ---- requests ---------------------------------------------------------------------------------------------------------
    def _look(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        return self._transport.json(Request("GET", path, query=dict(query or {}), repeatable=True))

    def _all(self, path: str, field: str, query: Mapping[str, str]) -> Iterator[Any]:
        cursor: str | None = ""
        while cursor is not None:
            page = self._look(path, {**query, **({"cursor": cursor} if cursor else {})})
            yield from part(page, field)
            cursor = page.get("next")

    def _tell(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._transport.json(Request("POST", path, dict(body), idempotency_key=str(uuid.uuid4())))


def _quoted(text: str) -> str:
    return quote(text, safe="")
