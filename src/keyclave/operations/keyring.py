"""Unwrapped keys, ready for use: a bounded cache of key versions in locked memory, and the tenants' own keys.

What a version may do is worked out from the transition table's states when it is loaded, so a use asks three fields. Any change
to a key drops it from here before the change is answered; the next use loads it again.
"""

from __future__ import annotations

from keyclave.core.canonical import canonical
from keyclave.core.errors import Broken, LimitReached, Sealed, Unknown, WrongState
from keyclave.core.ids import from_id
from keyclave.crypto.arena import Slot
from keyclave.crypto.module import CryptoModule
from keyclave.crypto.suites import KeySpec, Purpose
from keyclave.keys.model import Key, Version, WrappedMaterial
from keyclave.keys.states import PERMITS, Use, permits
from keyclave.operations.answers import AnswerForm
from keyclave.operations.nodes.lease import steady
from keyclave.roots.root import Root
from keyclave.store import key_rows, tenant_rows
from keyclave.store.interface import Store

BLOCK = 65_536  # uses accounted for at a time, before they happen: a crash can only over-count
CAPACITY = 8_192  # loaded keys


class Handle:
    """One key version in locked memory, with what it may do."""

    __slots__ = (
        "accounted", "forms", "key_id", "limit", "number", "process", "protect", "protect_until", "public", "raw_id", "slot",
        "spec", "state", "used",
    )  # fmt: skip

    def __init__(self, key: Key, version: Version, slot: Slot, used: int, limit: int) -> None:
        self.key_id = key.id
        self.raw_id = from_id("key", key.id)
        self.number = version.number
        self.spec = KeySpec(key.spec)
        self.state = version.state
        self.public = version.public
        self.slot = slot
        scheduled = version.scheduled
        self.protect = permits(version.state, Use.PROTECT, destruction_scheduled=scheduled)
        self.process = permits(version.state, Use.PROCESS, destruction_scheduled=scheduled)
        self.protect_until = key.protect_until(version) or 0
        self.used = self.accounted = used
        self.forms: dict[str, AnswerForm] = {}  # how answers are written that differ in little else, by what they hold
        self.limit = limit


class LoadedKey:
    """A key with those of its versions that have been asked for."""

    __slots__ = ("handles", "key", "loaded_at", "primary", "purpose")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.loaded_at = steady()
        self.purpose = Purpose(key.purpose)
        self.primary: Handle | None = None
        self.handles: dict[int, Handle] = {}


class Keyring:
    """Finds keys by id or name for a tenant, loading them through the root-protected tenant keys."""

    def __init__(self, store: Store, module: CryptoModule, message_limit: int) -> None:
        self._store = store
        self._module = module
        self._limit = message_limit
        self._keys: dict[tuple[str, str], LoadedKey] = {}
        self._tenants: dict[tuple[str, str], Slot] = {}
        self._absent: set[tuple[str, str]] = set()  # looked for in vain: so that unknown costs no more than forbidden

    # ---- tenants' keys ------------------------------------------------------------------------------------------------
    def unseal(self, root: Root) -> None:
        """Recover through the root those of every tenant's keys that are not here yet."""
        for tenant, duty, sealed in self._store.read(tenant_rows.read_tenant_keys):
            if (tenant, duty) not in self._tenants:
                self._tenants[tenant, duty] = root.recover(sealed, tenant_context(tenant, duty))

    def adopt(self, tenant: str, duty: str, slot: Slot) -> None:
        """Take over a tenant key that was just made."""
        self._tenants[tenant, duty] = slot

    def tenant_key(self, tenant: str, duty: str) -> Slot:
        """Return a tenant's key for a duty: operational, archive or context."""
        slot = self._tenants.get((tenant, duty))
        if slot is None:
            raise Sealed
        return slot

    def seal(self) -> None:
        """Wipe everything."""
        for loaded in self._keys.values():
            for handle in loaded.handles.values():
                handle.slot.wipe()
        for slot in self._tenants.values():
            slot.wipe()
        self._keys.clear()
        self._tenants.clear()

    # ---- keys ---------------------------------------------------------------------------------------------------------
    def find(self, tenant: str, ref: str) -> LoadedKey:
        """Return the key of that id or name; `Unknown` when the tenant has none."""
        loaded = self._keys.get((tenant, ref))
        if loaded is None:
            loaded = self._load(tenant, ref)
        return loaded

    def held(self, tenant: str, ref: str) -> LoadedKey | None:
        """Return the key of that id or name if it is in memory."""
        return self._keys.get((tenant, ref))

    def _load(self, tenant: str, ref: str) -> LoadedKey:
        if (tenant, ref) in self._absent:
            raise unknown_key()
        key = self._store.read(lambda conn: key_rows.read_key(conn, tenant, ref))
        if key is None:
            if len(self._absent) >= CAPACITY:
                self._absent.clear()
            self._absent.add((tenant, ref))
            raise unknown_key()
        loaded = self._keys.get((tenant, key.id)) or LoadedKey(key)
        if len(self._keys) >= 2 * CAPACITY:
            self._evict()
        self._keys[tenant, key.id] = self._keys[tenant, key.name] = loaded
        return loaded

    def _evict(self) -> None:
        """Drop the quarter that was loaded first; a slot wipes itself when its last user lets it go."""
        for ref in list(self._keys)[: CAPACITY // 2]:
            del self._keys[ref]

    def forget(self, tenant: str, ref: str) -> None:
        """Drop a key by id or name: it has changed, or has come to be."""
        self._absent.discard((tenant, ref))
        loaded = self._keys.pop((tenant, ref), None)
        if loaded is not None:
            self._keys.pop((tenant, loaded.key.id), None)
            self._keys.pop((tenant, loaded.key.name), None)

    def forget_all(self) -> None:
        """Drop every key."""
        self._keys.clear()
        self._absent.clear()

    def handle(self, loaded: LoadedKey, number: int) -> Handle:
        """Return a version's handle, unwrapping it on first use; `Unknown` for a version that never was."""
        handle = loaded.handles.get(number)
        if handle is not None:
            return handle
        key = loaded.key
        version = key.version(number)
        if version is None:
            raise Unknown("no such key version", "see `keyclave key show` for its versions")
        found = self._store.read(lambda conn: key_rows.read_material(conn, key.id, number))
        if found is None or found[0].archived:
            raise _not_permitted(version, Use.PROCESS)
        slot = self.open(key, found[0])
        handle = Handle(key, version, slot, found[1], self._limit)
        loaded.handles[number] = handle
        if number == key.primary:
            loaded.primary = handle
        return handle

    def protecting(self, loaded: LoadedKey, purpose: Purpose, now: int, uses: int = 1) -> Handle:
        """Return the primary version, if the key serves `purpose` and the version may protect now."""
        if loaded.purpose is not purpose:
            raise wrong_purpose(loaded, purpose)
        handle = loaded.primary
        if handle is None:
            if loaded.key.primary is None:
                raise WrongState("the key has no primary version", "a custodian activates one with `keyclave key activate`")
            handle = self.handle(loaded, loaded.key.primary)
        if not handle.protect:
            raise _not_permitted(loaded.key.versions[handle.number - 1], Use.PROTECT)
        if now >= handle.protect_until:
            raise WrongState(
                f"version {handle.number} has reached the end of its period for protection",
                "an operator rotates the key; what it protected still opens",
            )
        used = handle.used + uses
        if used > handle.limit:
            raise LimitReached(f"version {handle.number} has protected {handle.limit} messages", "an operator rotates the key")
        handle.used = used
        return handle

    def count_others(self, tenant: str, key_id: str, number: int, total: int) -> None:
        """Count what other processes have accounted for: a version's limit is one for all of them, to within a block each."""
        loaded = self._keys.get((tenant, key_id))
        handle = None if loaded is None else loaded.handles.get(number)
        if handle is not None and total > handle.accounted:
            handle.used += total - handle.accounted
            handle.accounted = total

    def processing(self, loaded: LoadedKey, purpose: Purpose, number: int) -> Handle:
        """Return a version, if the key serves `purpose` and the version may process."""
        if loaded.purpose is not purpose:
            raise wrong_purpose(loaded, purpose)
        handle = loaded.handles.get(number)
        if handle is None:
            handle = self.handle(loaded, number)
        if not handle.process:
            raise _not_permitted(loaded.key.versions[handle.number - 1], Use.PROCESS)
        return handle

    # ---- wrapping -----------------------------------------------------------------------------------------------------
    def wrap(self, key: Key, number: int, slot: Slot, *, archived: bool = False) -> WrappedMaterial:
        """Seal a version's material under its tenant's key, bound to its own place, and read it back before it is believed."""
        tenant_key = self.tenant_key(key.tenant, "archive" if archived else "operational")
        context = version_context(key, number)
        sealed = self._module.seal(tenant_key, slot, context)
        with self._module.open_slot(tenant_key, sealed, context) as again:
            if not slot.same_as(again):
                raise Broken("wrapped key material does not open again", "stop the server and check its memory")
        return WrappedMaterial(key=key.id, number=number, sealed=sealed, archived=archived)

    def open(self, key: Key, material: WrappedMaterial) -> Slot:
        """Open what `wrap` sealed."""
        tenant_key = self.tenant_key(key.tenant, "archive" if material.archived else "operational")
        return self._module.open_slot(tenant_key, material.sealed, version_context(key, material.number))


def tenant_context(tenant: str, duty: str) -> bytes:
    """Return what a tenant's key is bound to under the root."""
    return canonical("keyclave/tenant-key/1", tenant, duty)


def version_context(key: Key, number: int) -> bytes:
    """Return what a version's material is bound to: moved to another row, tenant or algorithm it will not open."""
    return material_context(key.tenant, key.id, number, key.spec, key.purpose)


def material_context(tenant: str, key_id: str, number: int, spec: str, purpose: str) -> bytes:
    """Return the same for a version of a key that is only being made."""
    return canonical("keyclave/key-version/1", tenant, key_id, number, spec, purpose)


def unknown_key() -> Unknown:
    """Return the one answer for a key that is not there and for one that the caller may not use."""
    return Unknown(
        "no such key, or not one for this credential",
        "check the name, and the credential's scope with `keyclave credential whoami`",
    )


def wrong_purpose(loaded: LoadedKey, purpose: Purpose) -> WrongState:
    """Return the refusal of a key that is for something else (SP 800-57 part 1, section 5.2: one key, one purpose)."""
    return WrongState(f"this key is for {loaded.purpose.value}, not for {purpose.value}", "use a key that was created for it")


def _not_permitted(version: Version, use: Use) -> WrongState:
    if version.scheduled:
        return WrongState(
            f"version {version.number} is scheduled for destruction",
            "a custodian can still stop it with `keyclave key cancel-destruction`",
        )
    return WrongState(f"version {version.number} is {version.state.value}: it may not {use.value}", PERMITS[version.state].advice)
