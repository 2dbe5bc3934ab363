"""Logging in: by a browser on this machine that hands a code on, or by a code that a person types elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from keyclave_client.answers import decode
from keyclave_client.errors import KeyclaveError
from keyclave_client.transport import Request, Transport


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A session that was opened. Times as RFC 3339 text; `token` does not print."""

    session: str
    principal: str
    aal: int
    how: str
    expires_at: str
    stepped_up_at: str
    token: str = field(repr=False)
    event: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceLogin:
    """A login that waits: the person types `user_code` at `verification_uri`. Times in seconds."""

    user_code: str
    verification_uri: str
    expires_in: int
    interval: int
    device_code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class DevicePoll:
    """How a waiting login stands, in the words of RFC 8628 section 3.5; with "granted" comes the session."""

    status: str
    interval: int = 5
    session: LoggedIn | None = None


@dataclass(frozen=True, slots=True)
class SignOn:
    """Where people log in: the origin of the pages, and the names of providers of single sign-on."""

    pages: str
    providers: tuple[str, ...] = ()


class Login:
    """Calls that need no credential but `logout`."""

    _transport: Transport

    def sign_on(self) -> SignOn:
        """Return where people log in."""
        said = self._transport.json(Request("GET", "/v1/sso", repeatable=True))
        listed = said.get("providers", []) if isinstance(said, dict) else []
        names = tuple(str(one["name"]) for one in listed if isinstance(one, dict) and "name" in one)
        return decode(SignOn, {**(said if isinstance(said, dict) else {}), "providers": names})

    def trade_code(self, code: str, verifier: str) -> LoggedIn:
        """Trade a code that a browser handed on, with the verifier that its challenge was made of. Never repeated: a code
        counts once."""
        return decode(
            LoggedIn, self._transport.json(Request("POST", "/v1/login/cli/token", {"code": code, "verifier": verifier}))
        )

    def begin_device_login(self) -> DeviceLogin:
        """Begin to wait for a person."""
        return decode(DeviceLogin, self._transport.json(Request("POST", "/v1/login/device", {})))

    def poll_device_login(self, device_code: str) -> DevicePoll:
        """Ask how it stands."""
        said: Any = self._transport.json(Request("POST", "/v1/login/device/token", {"device_code": device_code}))
        opened = said.get("session") if isinstance(said, dict) else None
        return decode(DevicePoll, {**said, "session": decode(LoggedIn, opened)} if opened is not None else said)

    def logout(self) -> None:
        """End the session that this client holds."""
        answer = self._transport.json(Request("POST", "/v1/logout", {}))
        if not isinstance(answer, dict) or answer.get("ended") != 1:
            raise KeyclaveError("the server did not say that the session ended", "see `keyclave session list`")
