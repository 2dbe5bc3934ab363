"""The other processes that serve the same home on this machine: they are sealed and unsealed with this one.

Custodians' shares may come to different processes, so one of them collects. Whoever brought the last share gets the root's key
from it, records the unsealing, and only then are the others opened. Sealing is answered when no process holds a key any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from keyclave.core.errors import KeyclaveError, LimitReached, Unavailable, WrongState
from keyclave.crypto.arena import Slot
from keyclave.operations.vault import Vault


class Taken:
    """What became of a share: refused (looked at or not), kept with `received` others, or the last one, which gave the root.

    `share` is its number, as it says itself; 0 if it is none of this server's."""

    __slots__ = ("error", "looked_at", "received", "root", "share")

    def __init__(
        self,
        received: int,
        *,
        error: KeyclaveError | None = None,
        looked_at: bool = True,
        root: Slot | None = None,
        share: int = 0,
    ) -> None:
        self.received = received
        self.error = error
        self.looked_at = looked_at
        self.root = root
        self.share = share


class Siblings(Protocol):
    """What unsealing and sealing ask of the other processes. Each answer comes on the loop, perhaps at once."""

    @property
    def received(self) -> int:
        """How many shares wait for the rest."""
        ...

    def offer(self, share: str, then: Callable[[Taken], None]) -> None:
        """Give a share to whoever collects them."""
        ...

    def open_others(self, then: Callable[[bool], None]) -> None:
        """This process is open, and that is recorded: open the others. `then` is told False where it is not known of them."""
        ...

    def close_others(self, then: Callable[[bool], None]) -> None:
        """Have every other process let go of its keys. `then` is called when none holds any, or with False: it is not known."""
        ...

    def drain_others(self, *, draining: bool) -> None:
        """Have every other process say that it is not ready, or that it is again."""
        ...


class Alone:
    """One process serves the home."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    @property
    def received(self) -> int:
        """How many shares wait for the rest."""
        return self._vault.received

    def offer(self, share: str, then: Callable[[Taken], None]) -> None:
        """Collect a share."""
        then(collect(self._vault, share))

    def open_others(self, then: Callable[[bool], None]) -> None:
        """There are none."""
        then(True)

    def close_others(self, then: Callable[[bool], None]) -> None:
        """There are none."""
        then(True)

    def drain_others(self, *, draining: bool) -> None:
        """There are none."""


def not_known(what: str) -> Unavailable:
    """Return the answer where this process has done its part, and the others have not said in time that they have."""
    return Unavailable(
        f"this process is {what}, and it is not known whether the server's others are: its supervisor does not answer",
        "look at the supervisor; restarting the server seals all of it",
    )


def collect(vault: Vault, share: str) -> Taken:
    """Give a share to the vault. With the last one the root's key comes back, and the vault is as before: sealed and empty."""
    try:
        vault.expect_share()
    except (LimitReached, WrongState) as refusal:
        return Taken(vault.received, error=refusal, looked_at=False)
    try:
        if not vault.offer(share):
            return Taken(vault.received, share=vault.given)
        return Taken(0, root=vault.give_root(), share=vault.given)
    except KeyclaveError as error:
        return Taken(vault.received, error=error, share=vault.given)
    finally:
        if not vault.sealed:
            vault.seal()
