"""People: who is invited, who is here, what they prove themselves with, which sessions they have."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from keyclave_client import people_views as views
from keyclave_client.answers import decode, part, to_base64
from keyclave_client.transport import Request, Transport


class People:
    """Inviting, enrolling, ending. Every change carries an Idempotency-Key, so repeating one does it once."""

    _transport: Transport

    # ---- invitations ------------------------------------------------------------------------------------------------------
    def invite(
        self, principal: str, role: str = "person", *, roles: Sequence[str] = (), hours: int = 24, reason: str = ""
    ) -> views.Invitation:
        """Invite a person. The token in the answer is for them alone; a second person must confirm before it opens anything."""
        body = {"principal": principal, "role": role, "roles": list(roles), "hours": hours, "reason": reason}
        return decode(views.Invitation, self._do("/v1/invitations", body))

    def confirm_invitation(self, invitation: str, reason: str = "") -> views.Invitation:
        """Stand behind an invitation that somebody else made."""
        return decode(views.Invitation, self._do(f"/v1/invitations/{_quoted(invitation)}/confirm", {"reason": reason}))

    def revoke_invitation(self, invitation: str, reason: str = "") -> views.Invitation:
        """Take an invitation back that was not used."""
        return decode(views.Invitation, self._do(f"/v1/invitations/{_quoted(invitation)}/revoke", {"reason": reason}))

    def list_invitations(self) -> Iterator[views.Invitation]:
        """Yield the tenant's invitations, without their tokens."""
        for item in self._each("/v1/invitations", "invitations", {}):
            yield decode(views.Invitation, item)

    # ---- people -----------------------------------------------------------------------------------------------------------
    def list_people(self) -> Iterator[views.Person]:
        """Yield the tenant's people by name."""
        for item in self._each("/v1/people", "people", {}):
            yield decode(views.Person, item)

    def get_person(self, principal: str) -> views.Person:
        """Return one person."""
        return decode(views.Person, self._get(f"/v1/people/{_quoted(principal)}"))

    def disable_person(self, principal: str, reason: str = "", *, anyway: bool = False) -> views.Person:
        """Disable a person: when this returns, nothing of theirs is taken any more.

        `anyway`: even where too few people are left to approve anything.
        """
        body = {"reason": reason, **({"anyway": True} if anyway else {})}
        return decode(views.Person, self._do(f"/v1/people/{_quoted(principal)}/disable", body))

    def enable_person(self, principal: str, reason: str = "") -> views.Person:
        """Enable a person again; sessions that ended stay ended."""
        return decode(views.Person, self._do(f"/v1/people/{_quoted(principal)}/enable", {"reason": reason}))

    def change_roles(
        self, principal: str, *, give: Sequence[str] = (), take: Sequence[str] = (), reason: str = ""
    ) -> views.Person:
        """Give and take roles beside the person's duty."""
        body = {"give": list(give), "take": list(take), "reason": reason}
        return decode(views.Person, self._do(f"/v1/people/{_quoted(principal)}/roles", body))

    # ---- authenticators ---------------------------------------------------------------------------------------------------
    def list_authenticators(self, principal: str = "") -> views.Authenticators:
        """Return one's own authenticators, or those of `principal`."""
        query = {"principal": principal} if principal else {}
        return decode(views.Authenticators, self._get("/v1/authenticators", query))

    def enrol_key(self, public_key: str, sign: Callable[[bytes], bytes], label: str = "") -> views.Authenticator:
        """Enrol a key that signs approvals: `public_key` in PEM (P-256 or P-384), `sign` returns its DER signature of bytes.

        With P-256 the signature is over SHA-256 of the bytes, with P-384 over SHA-384.
        """
        begun = decode(views.KeyEnrolment, self._do("/v1/authenticators/key/begin", {}, idempotent=False))
        proof = to_base64(sign(begun.statement.encode()))
        body = {"ceremony": begun.ceremony, "public_key": public_key, "proof": proof, "label": label}
        return decode(views.Authenticator, self._do("/v1/authenticators/key", body))

    def revoke_authenticator(self, authenticator: str, reason: str = "", *, anyway: bool = False) -> views.Authenticator:
        """Revoke an authenticator; the sessions it opened end with it.

        `anyway`: even where too few people are left to approve anything.
        """
        body = {"reason": reason, **({"anyway": True} if anyway else {})}
        return decode(views.Authenticator, self._do(f"/v1/authenticators/{_quoted(authenticator)}/revoke", body))

    def make_recovery_codes(self) -> views.RecoveryCodes:
        """Make a new set of recovery codes; they are in this answer and nowhere else, and an older set opens nothing."""
        return decode(views.RecoveryCodes, self._do("/v1/authenticators/recovery", {}))

    # ---- sessions ---------------------------------------------------------------------------------------------------------
    def list_sessions(self, principal: str = "") -> Iterator[views.Session]:
        """Yield one's own live sessions, those of `principal`, or everybody's (`*`)."""
        query = {"principal": principal} if principal else {}
        for item in self._each("/v1/sessions", "sessions", query):
            yield decode(views.Session, item)

    def revoke_session(self, session: str, reason: str = "") -> int:
        """End a session and return how many ended (0 when it had)."""
        return decode(views.Ended, self._do(f"/v1/sessions/{_quoted(session)}/revoke", {"reason": reason})).ended

    def end_sessions(self, principal: str, reason: str = "") -> int:
        """End every session of a person and return how many there were."""
        return decode(views.Ended, self._do(f"/v1/people/{_quoted(principal)}/end-sessions", {"reason": reason})).ended

    def logout(self) -> None:
        """End the session that asks."""
        self._do("/v1/logout", {}, idempotent=False)

    # ---- requests ---------------------------------------------------------------------------------------------------------
    def _get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        return self._transport.json(Request("GET", path, query=dict(query or {}), repeatable=True))

    def _each(self, path: str, field: str, query: Mapping[str, str]) -> Iterator[Any]:
        cursor: str | None = ""
        while cursor is not None:
            page = self._get(path, {**query, **({"cursor": cursor} if cursor else {})})
            yield from part(page, field)
            cursor = page.get("next")

    def _do(self, path: str, body: Mapping[str, Any], *, idempotent: bool = True) -> Any:
        key = str(uuid.uuid4()) if idempotent else None
        return self._transport.json(Request("POST", path, dict(body), idempotency_key=key))


def _quoted(text: str) -> str:
    return quote(text, safe="")
