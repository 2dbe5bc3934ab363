"""The rows of the operations on people, their authenticators and sessions."""

from __future__ import annotations

from typing import Any

from keyclave.operations.forms import Empty
from keyclave.operations.operation import Operation, always
from keyclave.operations.people import (
    authenticators,
    cli_login,
    device_login,
    enrol_key,
    enrol_passkey,
    enrol_password,
    enrol_recovery,
    enrol_totp,
    invitations,
    persons,
    sessions,
    step_up,
)
from keyclave.operations.people.enrolment import AuthenticatorView
from keyclave.operations.people.webauthn_forms import PasskeyBegun
from keyclave.policy.classes import Class


def _own(name: str, path: str, request: type, answer: type, run: Any, summary: str, **more: Any) -> Operation:
    """Return the row of what somebody does for themselves: it needs no permit, and the verb itself asks how sure one must be."""
    return Operation(name, "POST", path, request, answer, summary, run, self_service=True, **more)


def _change(name: str, path: str, request: type, answer: type, run: Any, summary: str, **more: Any) -> Operation:
    return Operation(name, "POST", path, request, answer, summary, run, changes=True, needs_root=False, **more)


def _read(name: str, path: str, query: type | None, answer: type, run: Any, summary: str, **more: Any) -> Operation:
    return Operation(name, "GET", path, None, answer, summary, run, query=query, needs_root=False, slow=always, **more)


_ENROL = "/v1/authenticators"
_PERSON = "/v1/people/{person}"

ENROLMENT: list[Operation] = [
    _own("authenticator-begin", f"{_ENROL}/passkey/begin", Empty, PasskeyBegun, enrol_passkey.begin,
         "Begin the enrolment of a passkey.", needs_root=False),
    _own("authenticator-enrol", f"{_ENROL}/passkey/finish", enrol_passkey.EnrolPasskey, AuthenticatorView,
         enrol_passkey.finish, "Enrol the passkey that a device made.", needs_root=False, changes=True, status=201),
    _own("authenticator-begin", f"{_ENROL}/key/begin", Empty, enrol_key.KeyBegun, enrol_key.begin,
         "Begin the enrolment of a key that signs approvals.", needs_root=False),
    _own("authenticator-enrol", f"{_ENROL}/key", enrol_key.EnrolKey, AuthenticatorView, enrol_key.finish,
         "Enrol an ECDSA key that its owner proved to hold.", needs_root=False, changes=True, status=201),
    _own("authenticator-begin", f"{_ENROL}/totp/begin", Empty, enrol_totp.TotpBegun, enrol_totp.begin,
         "Begin the enrolment of a code generator; its seed is shown once."),
    _own("authenticator-enrol", f"{_ENROL}/totp/finish", enrol_totp.EnrolTotp, AuthenticatorView, enrol_totp.finish,
         "Enrol the code generator that shows the right code.", changes=True, status=201),
    _own("authenticator-enrol", f"{_ENROL}/password", enrol_password.EnrolPassword, AuthenticatorView, enrol_password.finish,
         "Set a password: a first factor, good only with a code.", changes=True, status=201, slow=always),
    _own("authenticator-enrol", f"{_ENROL}/recovery", Empty, enrol_recovery.RecoveryCodes, enrol_recovery.finish,
         "Make ten recovery codes; they are shown once.", needs_root=False, changes=True, status=201),
    _own("authenticator-revoke", f"{_ENROL}/{{authenticator}}/revoke", authenticators.RevokeAuthenticator, AuthenticatorView,
         authenticators.revoke, "Revoke an authenticator: one's own, or as a custodian anybody's.",
         needs_root=False, changes=True),
    _read("authenticator-list", _ENROL, authenticators.AuthenticatorQuery, authenticators.AuthenticatorPage,
          authenticators.list_authenticators, "List authenticators.", self_service=True),
]  # fmt: skip

SESSIONS: list[Operation] = [
    _own("step-up", "/v1/step-up/passkey/begin", Empty, PasskeyBegun, step_up.begin,
         "Begin a fresh proof of presence.", needs_root=False),
    _own("step-up", "/v1/step-up/passkey/finish", step_up.StepUp, sessions.SessionAnswer, step_up.finish,
         "Prove presence again: the session gets a new token.", needs_root=False, changes=True),
    _own("logout", "/v1/logout", Empty, sessions.EndAnswer, sessions.logout, "End the session that asks.",
         needs_root=False, changes=True),
    _own("session-revoke", "/v1/sessions/{session}/revoke", sessions.EndRequest, sessions.EndAnswer, sessions.revoke_session,
         "End a session: one's own, or as a custodian or operator anybody's.", needs_root=False, changes=True),
    _own("session-revoke", f"{_PERSON}/end-sessions", sessions.EndRequest, sessions.EndAnswer, sessions.end_all,
         "End every session of a person.", needs_root=False, changes=True),
    _read("session-list", "/v1/sessions", sessions.SessionQuery, sessions.SessionPage, sessions.list_sessions,
          "List live sessions.", self_service=True),
]  # fmt: skip

HAND_OVER: list[Operation] = [
    _own("cli-grant", "/v1/login/cli/grant", cli_login.CliGrant, cli_login.CliGranted, cli_login.grant,
         "Hand a login on to the command line of this machine.", needs_root=False, changes=True),
    _own("device-look", "/v1/login/device/look", device_login.DeviceCode, device_login.DeviceView, device_login.look,
         "Show which machine waits under a code.", needs_root=False),
    _own("device-grant", "/v1/login/device/grant", device_login.DeviceGrant, device_login.DeviceView, device_login.grant,
         "Let a machine in that waits, or turn it away.", needs_root=False, changes=True),
]  # fmt: skip

STANDING: list[Operation] = [
    _change("invitation-create", "/v1/invitations", invitations.InviteRequest, invitations.IssuedInvitation,
            invitations.invite, "Invite a person; the token is shown once, and waits for a second person.", status=201,
            acts_as=invitations.invite_action),
    _change("invitation-confirm", "/v1/invitations/{invitation}/confirm", invitations.ConfirmRequest,
            invitations.InvitationView, invitations.confirm, "Stand behind an invitation that somebody else made."),
    _change("invitation-revoke", "/v1/invitations/{invitation}/revoke", invitations.ConfirmRequest,
            invitations.InvitationView, invitations.revoke, "Take an invitation back."),
    _read("invitation-list", "/v1/invitations", invitations.InvitationQuery, invitations.InvitationPage,
          invitations.list_invitations, "List invitations."),
    _read("person-list", "/v1/people", persons.PersonQuery, persons.PersonPage, persons.list_people, "List people."),
    _read("person-read", _PERSON, None, persons.PersonView, persons.read_person, "Describe a person."),
    _change("person-disable", f"{_PERSON}/disable", persons.DisableRequest, persons.PersonView, persons.disable,
            "Disable a person: every session and credential of theirs ends at once."),
    _change("person-enable", f"{_PERSON}/enable", persons.StandingRequest, persons.PersonView, persons.enable,
            "Enable a person again.", classed=Class.PRIVILEGE),
    _change("person-roles", f"{_PERSON}/roles", persons.RolesRequest, persons.PersonView, persons.change_roles,
            "Give and take roles beside the duty.", acts_as=persons.roles_action),
]  # fmt: skip

OPERATIONS: list[Operation] = [*ENROLMENT, *SESSIONS, *HAND_OVER, *STANDING]
