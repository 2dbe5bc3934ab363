"""Rows to records and back: what is written is read again, and whoever comes second is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec
import pytest
from sqlalchemy import Connection

from keyclave.core.errors import Conflict, StaleRevision
from keyclave.identity.caller import Credential
from keyclave.identity.roles import Role
from keyclave.identity.scope import Scope
from keyclave.keys.model import Cryptoperiod, Key, Rotation, Version, WrappedMaterial
from keyclave.keys.states import State
from keyclave.keys.transitions import Move, moved
from keyclave.policy.apart import Act
from keyclave.store import key_rows, once_rows, tenant_rows
from keyclave.store.access import acts, credentials
from tests.store.units import AnyStore

T = TypeVar("T")
ID = "key_" + "a" * 26
TENANT = "ten_" + "b" * 26


@pytest.fixture
def store(any_store: AnyStore) -> Iterator[AnyStore]:
    sealed = {"operational": b"o", "archive": b"a", "context": b"c"}
    any_store.write(lambda conn: tenant_rows.insert_tenant(conn, TENANT, "home", sealed, 1, home=True))
    yield any_store


def a_key(name: str = "mrn", ident: str = ID, **more: Any) -> Key:
    version = Version(number=1, state=State.ACTIVE, origin="generated", kcv="0a1b2c", created_at=10, activated_at=10)
    fields: dict[str, Any] = {
        "id": ident, "tenant": TENANT, "name": name, "spec": "aes-256", "purpose": "encrypt", "owner": "cardiology",
        "environment": "production", "classification": "ePHI", "location": "software", "tags": {"b": "2", "a": "1"},
        "cryptoperiod": Cryptoperiod(365, 730), "rotation": Rotation(90, "risk"), "created_at": 10, "created_by": "first",
        "primary": 1, "rev": 1, "versions": (version,),
    }  # fmt: skip
    return Key(**{**fields, **more})


def material(number: int = 1, sealed: bytes = b"sealed", ident: str = ID) -> WrappedMaterial:
    return WrappedMaterial(key=ident, number=number, sealed=sealed, archived=False)


def kept(store: AnyStore, key: Key) -> Key:
    store.write(lambda conn: key_rows.insert_key(conn, key, material(ident=key.id)))
    return key


def read(store: AnyStore, fn: Callable[..., T], *arguments: Any) -> T:
    return store.read(lambda conn: fn(conn, *arguments))


@pytest.mark.requirement("R13")
def test_a_key_is_read_as_it_was_written_by_id_and_by_name(store: AnyStore) -> None:
    key = kept(store, a_key())
    assert read(store, key_rows.read_key, TENANT, ID) == read(store, key_rows.read_key, TENANT, "mrn") == key
    assert read(store, key_rows.read_material, ID, 1) == (material(), 0)


@pytest.mark.requirement("R10")
@pytest.mark.parametrize(("origin", "action"), [("generated", "key-create"), ("imported", "key-import")])
def test_who_made_a_key_is_its_first_act_and_other_acts_come_behind_it(store: AnyStore, origin: str, action: str) -> None:
    actions = {"key-create", "key-import", "rotate"}
    plain = a_key()
    key = msgspec.structs.replace(plain, versions=(msgspec.structs.replace(plain.versions[0], origin=origin),))
    done = [("rotate", "key", ID), ("rotate", "key-version", f"{ID}:2")]
    store.write(lambda conn: key_rows.insert_key(conn, key, material(), "n1-7"))
    store.write(lambda conn: acts.insert_acts(conn, TENANT, "second", 11, "n1-8", done))
    made, rotated = Act(action, "first"), Act("rotate", "second")
    assert read(store, acts.read_acts, TENANT, "key", ID, actions) == [made, rotated]
    assert read(store, acts.read_acts, TENANT, "key-version", f"{ID}:1", actions) == [made]
    assert read(store, acts.read_acts, TENANT, "key-version", f"{ID}:2", actions) == [rotated]
    assert read(store, acts.read_acts, TENANT, "key", ID, {"rotate"}) == [rotated]
    assert read(store, acts.read_acts, "ten_other", "key", ID, actions) == []
    assert read(store, acts.read_acts, TENANT, "person", ID, actions) == []
    found = read(store, acts.read_done, TENANT)
    assert [(one.kind, one.action) for one in found["n1-7"]] == [("key", action), ("key-version", action)]
    later = found["n1-8"][0].number
    assert read(store, acts.read_acts_before, TENANT, "key", ID, actions, later) == [made]
    assert read(store, acts.read_acts_before, TENANT, "key", ID, actions, found["n1-7"][0].number) == []


def test_a_key_that_no_person_made_is_nobodys_act(store: AnyStore) -> None:
    kept(store, a_key())
    assert read(store, acts.read_acts, TENANT, "key", ID, {"key-create"}) == []
    assert read(store, acts.read_done, TENANT) == {}


def test_another_tenant_finds_nothing(store: AnyStore) -> None:
    kept(store, a_key())
    for ref in (ID, "mrn"):
        assert read(store, key_rows.read_key, "ten_other", ref) is None
    assert read(store, key_rows.list_keys, "ten_other", "", 10, None, None) == []


def test_a_taken_name_is_a_conflict_and_leaves_nothing(store: AnyStore) -> None:
    kept(store, a_key())
    with pytest.raises(Conflict, match="exists"):
        kept(store, a_key(ident="key_" + "c" * 26))
    assert len(read(store, key_rows.list_keys, TENANT, "", 10, None, None)) == 1


@pytest.mark.requirement("R23")
def test_whoever_changes_an_outdated_key_is_told_and_changes_nothing(store: AnyStore) -> None:
    before = kept(store, a_key())
    first = msgspec.structs.replace(before, owner="oncology")
    second = msgspec.structs.replace(before, owner="radiology", tags={"z": "9"})
    changed = store.write(lambda conn: key_rows.update_key(conn, before, first))
    assert changed == msgspec.structs.replace(first, rev=2)
    with pytest.raises(StaleRevision):
        store.write(lambda conn: key_rows.update_key(conn, before, second))
    assert read(store, key_rows.read_key, TENANT, "mrn") == changed


def test_a_key_that_is_not_there_is_stale_too(store: AnyStore) -> None:
    with pytest.raises(StaleRevision):
        store.write(lambda conn: key_rows.update_key(conn, a_key(), a_key(owner="x")))


@pytest.mark.requirement("R24")
def test_a_rotation_moves_the_primary_mark_in_one_change(store: AnyStore) -> None:
    before = kept(store, a_key())
    old = moved(before.versions[0], Move.SUPERSEDE, 20)
    new = Version(number=2, state=State.ACTIVE, origin="generated", kcv="ff", created_at=20, activated_at=20)
    now = msgspec.structs.replace(before, versions=(old, new), primary=2)

    def rotate(conn: Connection) -> Key:
        after = key_rows.update_key(conn, before, now)
        key_rows.insert_version(conn, after, after.versions[-1], material(2, b"second"))
        return after

    after = store.write(rotate)
    assert read(store, key_rows.read_key, TENANT, ID) == after
    assert (after.primary, after.rev, [v.state for v in after.versions]) == (2, 2, [State.DEACTIVATED, State.ACTIVE])
    assert read(store, key_rows.read_material, ID, 1) == (material(), 0)
    assert read(store, key_rows.read_material, ID, 2) == (material(2, b"second"), 0)
    back = msgspec.structs.replace(after, primary=1)
    store.write(lambda conn: key_rows.update_key(conn, after, back))
    found = read(store, key_rows.read_key, TENANT, ID)
    assert found is not None
    assert found.primary == 1


@pytest.mark.requirement("R23")
def test_destroying_removes_the_material_and_leaves_the_rest(store: AnyStore) -> None:
    before = kept(store, a_key())
    off = moved(before.versions[0], Move.DEACTIVATE, 20)
    now = store.write(
        lambda conn: key_rows.update_key(conn, before, msgspec.structs.replace(before, versions=(off,), primary=None))
    )
    gone = moved(off, Move.DESTROY, 30)
    after = store.write(lambda conn: key_rows.update_key(conn, now, msgspec.structs.replace(now, versions=(gone,))))
    assert read(store, key_rows.read_material, ID, 1) is None
    found = read(store, key_rows.read_key, TENANT, ID)
    assert found == after
    assert (found.versions[0].kcv, found.versions[0].destroyed_at, found.name) == ("0a1b2c", 30, "mrn")


def test_archived_material_is_told_from_operational(store: AnyStore) -> None:
    before = kept(store, a_key())
    off = moved(before.versions[0], Move.DEACTIVATE, 20)
    stored = moved(off, Move.ARCHIVE, 21)
    store.write(lambda conn: key_rows.update_key(conn, before, msgspec.structs.replace(before, versions=(stored,), primary=None)))
    store.write(lambda conn: key_rows.replace_material(conn, material(sealed=b"sealed anew")))
    found = read(store, key_rows.read_material, ID, 1)
    assert found is not None
    assert (found[0].sealed, found[0].archived) == (b"sealed anew", True)


@pytest.mark.requirement("R12")
def test_uses_are_accounted_for_version_by_version(store: AnyStore) -> None:
    kept(store, a_key())
    for _ in range(3):
        store.write(lambda conn: key_rows.reserve_uses(conn, ID, 1, 65_536))
    assert read(store, key_rows.read_material, ID, 1) == (material(), 3 * 65_536)


def test_lists_are_in_the_order_of_names_page_by_page(store: AnyStore) -> None:
    names = ["a", "ab", "abc", "b", "b_", "b%", "Z"]
    for number, name in enumerate(names):
        kept(store, a_key(name, "key_" + f"{number:a>26}"))
    seen: list[str] = []
    while page := read(store, key_rows.list_keys, TENANT, seen[-1] if seen else "", 2, None, None):
        seen += [key.name for key in page]
    assert seen == sorted(names)
    assert [k.name for k in read(store, key_rows.list_keys, TENANT, "", 9, "b", None)] == ["b", "b%", "b_"]
    assert [k.name for k in read(store, key_rows.list_keys, TENANT, "", 9, "b_", None)] == ["b_"]
    assert [k.name for k in read(store, key_rows.list_keys, TENANT, "", 9, None, State.SUSPENDED)] == []
    assert len(read(store, key_rows.list_keys, TENANT, "", 9, None, State.ACTIVE)) == len(names)


@pytest.mark.requirement("R10")
def test_a_credential_is_found_by_its_digest_and_once_revoked_stays_so(store: AnyStore) -> None:
    scope = Scope(operations=("encrypt",), keys=("mrn",), context={"purpose": ("treatment",)})
    credential = Credential(
        id="crd_1",
        tenant=TENANT,
        principal="app",
        role=Role.APPLICATION,
        scope=scope,
        created_at=1,
        created_by="op",
        expires_at=99,
    )
    store.write(lambda conn: credentials.insert_credential(conn, credential, b"digest"))
    assert read(store, credentials.read_credential, b"digest") == credential
    assert read(store, credentials.read_credential, b"other") is None
    assert read(store, credentials.find_credential, "ten_other", "crd_1") is None
    assert read(store, credentials.read_role, TENANT, "app") is Role.APPLICATION
    for at in (50, 60):
        store.write(lambda conn, at=at: credentials.revoke_credential(conn, "crd_1", at))  # type: ignore[misc]
    found = read(store, credentials.read_credential, b"digest")
    assert found is not None
    assert found.revoked_at == 50


def test_an_idempotent_answer_is_kept_for_a_day(store: AnyStore) -> None:
    day = once_rows.IDEMPOTENCY_KEPT
    store.write(lambda conn: once_rows.keep_idempotent(conn, TENANT, "p", "k1", b"r", b"answer", 0))
    store.write(lambda conn: once_rows.keep_idempotent(conn, TENANT, "p", "k2", b"r", b"answer", day))
    assert read(store, once_rows.read_idempotent, TENANT, "p", "k1") == (b"r", b"answer")
    store.write(lambda conn: once_rows.keep_idempotent(conn, TENANT, "p", "k3", b"r", b"answer", day + 1))
    assert read(store, once_rows.read_idempotent, TENANT, "p", "k1") is None
    assert read(store, once_rows.read_idempotent, TENANT, "p", "k2") == (b"r", b"answer")
    assert read(store, once_rows.read_idempotent, TENANT, "q", "k2") is None
