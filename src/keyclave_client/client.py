"""The client: everything a Keyclave server does, as methods with bytes in and frozen values out."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from keyclave_client.answers import decode
from keyclave_client.approvals import Approvals
from keyclave_client.errors import KeyclaveError
from keyclave_client.life import KeyLife
from keyclave_client.login import Login
from keyclave_client.nodes import Nodes
from keyclave_client.people import People
from keyclave_client.policy import Policies
from keyclave_client.record import Record
from keyclave_client.rights import Rights
from keyclave_client.transport import Request, Transport
from keyclave_client.use import KeyUse
from keyclave_client.views import SelfTest, Status, Unsealing, Whoami
from keyclave_client.workloads import Workloads

if TYPE_CHECKING:
    from keyclave_client.local.cache import CacheLimits
    from keyclave_client.local.encryptor import Encryptor


class Client(KeyUse, KeyLife, People, Login, Rights, Approvals, Workloads, Policies, Nodes, Record):
    """A connection to one server, to be shared by threads and closed (or used in a `with`). Forked processes begin anew with it:
    each has its own connections and data keys.

    `url` is https://host:port; `token` a credential, a function that returns the current one (short-lived credentials), or
    None for the calls that need none; `ca_file` the PEM file of the authority that signed the server's certificate (the
    system's if None); `certificate` the PEM files of a client certificate, with what is above it, and of its key, read again when
    they are replaced; `timeout` seconds for each step of a request; `approval` the id of an approval under which changes are
    made; `purpose` the purpose of use that is declared (treatment, payment, operations, research, break-glass). Nothing connects
    before the first call.
    """

    def __init__(
        self,
        url: str,
        token: str | Callable[[], str] | None = None,
        *,
        ca_file: str | None = None,
        certificate: tuple[str, str] | None = None,
        timeout: float = 30.0,
        approval: str | None = None,
        purpose: str | None = None,
    ) -> None:
        self._transport = Transport(url, token, ca_file, timeout, approval=approval, certificate=certificate, purpose=purpose)

    def __repr__(self) -> str:
        return f"Client({self._transport.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def whoami(self) -> Whoami:
        """Return who the server thinks is asking."""
        return decode(Whoami, self._read("/v1/whoami"))

    def status(self) -> Status:
        """Return the server's short account of itself (no credential needed)."""
        return decode(Status, self._read("/v1/status"))

    def health(self) -> str:
        """Return "ok", "sealed" or "broken"; no answer at all raises `Unreachable`. No credential needed."""
        return self._transport.health()

    def unseal(self, share: str) -> Unsealing:
        """Give one custodian's share. It is never repeated by itself: each share given is an event in the record."""
        return decode(Unsealing, self._transport.json(Request("POST", "/v1/unseal", {"share": share})))

    def seal(self) -> None:
        """Make the server forget its root key until custodians unseal it."""
        answer = self._transport.json(Request("POST", "/v1/seal", {}))
        if not isinstance(answer, dict) or answer.get("sealed") is not True:
            raise KeyclaveError("the server did not say that it is sealed", "ask it with `status`")

    def self_test(self, *, full: bool = False) -> SelfTest:
        """Have the server's cryptographic module compute its known answers; `full` adds a fresh key pair of every kind.

        A module that fails stops its server, so a failure is `broken` or no answer at all.
        """
        return decode(SelfTest, self._transport.json(Request("POST", "/v1/self-test", {"full": full})))

    def encryptor(self, key: str, *, cache: CacheLimits | None = None, file_cache: CacheLimits | None = None) -> Encryptor:
        """Return an `Encryptor` for local envelope encryption under `key` (id or name).

        `cache` bounds the data keys kept for small messages (`DEFAULT_CACHE`), `file_cache` those for files (none are kept).
        """
        from keyclave_client.local.cache import DEFAULT_CACHE, NO_CACHE  # loads the crypto library: only encryptors pay
        from keyclave_client.local.datakey import ServerKeys
        from keyclave_client.local.encryptor import Encryptor

        return Encryptor(ServerKeys(self, key), cache=cache or DEFAULT_CACHE, file_cache=file_cache or NO_CACHE)

    def openapi(self) -> dict[str, Any]:
        """Return the server's OpenAPI 3.1 description."""
        described = self._read("/v1/openapi.json")
        if not isinstance(described, dict):
            raise KeyclaveError("the answer is no API description", "check the address and what stands between")
        return described
