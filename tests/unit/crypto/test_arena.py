"""Locked memory and its handles: nothing shows, nothing is copied, nothing is reused while it can be seen."""

from __future__ import annotations

import copy
import gc
import json
import logging
import mmap
import os
import pickle
import resource
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyclave.core.errors import Broken, Malformed
from keyclave.crypto import arena as arenas
from keyclave.crypto.arena import CELL, LARGEST, Arena, Slot, in_secret_memory, in_use, slot_from
from keyclave.crypto.locked_memory import Mapping

SECRET = b"sixteen byte key"


def held(content: bytes = SECRET) -> Slot:
    return slot_from(bytearray(content))


@pytest.mark.requirement("R1", "P7")
@pytest.mark.parametrize(
    "leak",
    [
        repr, str, "{}".format, lambda s: f"{s!r}{s}", lambda s: repr([s, {"key": s}]), lambda s: repr(vars(type(s))),
        lambda s: logging.LogRecord("n", 1, "p", 1, "%s %r", (s, s), None).getMessage(),
    ],
)  # fmt: skip
def test_a_handle_does_not_show_what_it_holds(leak: object) -> None:
    with held() as slot:
        shown = leak(slot)  # type: ignore[operator]
        assert "sixteen" not in shown
        assert SECRET.hex() not in shown


@pytest.mark.requirement("R4", "P7")
@pytest.mark.parametrize(
    "copying",
    [
        pickle.dumps, copy.copy, copy.deepcopy, bytes, bytearray, list, iter, memoryview, json.dumps, msgspec.json.encode,
        lambda s: s[0], lambda s: b"".join([s]), lambda s: s + s, lambda s: 0x73 in s,
    ],
)  # fmt: skip
def test_a_handle_is_not_copied_pickled_or_listed(copying: object) -> None:
    with held() as slot, pytest.raises((TypeError, msgspec.EncodeError)):
        copying(slot)  # type: ignore[operator]


def test_handles_are_compared_by_identity_and_their_bytes_in_constant_time_only() -> None:
    with held() as one, held() as two, held(b"another byte key") as three:
        assert one != two
        assert hash(one) != hash(two)
        assert one.same_as(two)
        assert not one.same_as(three)
        assert not one.same_as(held(SECRET + b"!"))


@pytest.mark.requirement("P7")
def test_wiping_zeroes_the_bytes_at_once_and_ends_their_use() -> None:
    slot = held()
    view = slot.view()
    slot.wipe()
    assert bytes(view) == bytes(len(SECRET))
    assert slot.wiped
    for use in (slot.view, slot.__len__, lambda: slot.same_as(held()), lambda: held().same_as(slot), lambda: in_use(slot)):
        with pytest.raises(Broken):
            use()
    slot.wipe()


@pytest.mark.requirement("P7")
@pytest.mark.parametrize("end", ["leaving its block", "an error in its block", "losing the last reference", "a cycle collected"])
def test_a_slot_is_wiped_however_it_ends(end: str) -> None:
    slot = held()
    view = slot.view()
    if end == "leaving its block":
        with slot:
            pass
    elif end == "an error in its block":
        with pytest.raises(KeyError), slot:
            raise KeyError
    elif end == "losing the last reference":
        del slot
    else:
        ring: list[object] = [slot]
        ring.append(ring)
        del slot, ring
        gc.collect()
    assert bytes(view) == bytes(len(SECRET))


@pytest.mark.requirement("P7")
def test_memory_is_not_reused_while_any_view_of_it_is_out() -> None:
    slot = held()
    address = mmap_address(slot.view())
    slice_of_a_slice = slot.view()[2:][3:8]
    slot.wipe()
    others = [Slot(16) for _ in range(200)]
    assert address not in {mmap_address(other.view()) for other in others}
    slice_of_a_slice[:] = b"stray"  # a forgotten view writes into cells that are nobody's
    assert all(bytes(other.view()) == bytes(16) for other in others)
    del slice_of_a_slice
    again = [Slot(16) for _ in range(200)]
    assert address in {mmap_address(other.view()) for other in again}
    assert all(bytes(other.view()) == bytes(16) for other in again), (
        "what the stray view wrote is wiped before the cells are reused"
    )


def mmap_address(view: memoryview) -> int:
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def test_a_slot_made_from_a_bytearray_leaves_it_empty_of_secrets() -> None:
    source = bytearray(SECRET)
    with slot_from(source) as slot:
        assert bytes(slot.view()) == SECRET
        assert source == bytes(len(SECRET))


@pytest.mark.parametrize("length", [0, -1, LARGEST + 1, 1 << 40])
def test_a_secret_has_a_sensible_length(length: int) -> None:
    with pytest.raises(Malformed):
        Slot(length)


@given(st.lists(st.tuples(st.integers(1, 40 * CELL), st.integers(0, 9)), max_size=60))
def test_slots_never_overlap_and_all_cells_come_back(plan: list[tuple[int, int]]) -> None:
    arena = Arena(1 << 16)
    cells = arena.free()
    held: list[tuple[memoryview, int]] = []
    for number, (length, drop) in enumerate(plan, 1):
        piece = arena.take(-(-length // CELL))
        if piece is None:
            assert arena.free() < cells
            continue
        view = memoryview(piece)[:length]
        del piece
        assert not any(view), "a fresh slot is all zero"
        view[:] = bytes([number]) * length
        held.append((view, number))
        if drop < 4:
            del view
            held.pop(drop % len(held))
        for kept, mark in held:
            assert set(kept) == {mark}
    kept = view = None  # type: ignore[assignment]
    held.clear()
    arena.take(1)
    assert arena.free() == cells


@pytest.mark.parametrize("secret", [True, False])
def test_an_arena_that_is_full_says_so_and_has_room_again(secret: bool) -> None:
    arena = Arena(1 << 12, secret=secret)
    pieces = [arena.take(1) for _ in range(64)]
    assert None not in pieces
    assert arena.take(1) is None
    assert arena.take(2) is None
    del pieces[10:12]
    wide = arena.take(2)
    assert wide is not None
    assert arena.take(1) is None


def test_the_process_grows_by_further_arenas() -> None:
    slots = [Slot(LARGEST) for _ in range(2 * arenas.ARENA // LARGEST)]
    for number, slot in enumerate(slots):
        slot.view()[:] = bytes([number]) * LARGEST
    assert all(set(slot.view()) == {number} for number, slot in enumerate(slots))


@pytest.mark.requirement("P7")
def test_two_threads_making_and_wiping_slots_do_not_meet() -> None:
    wrong: list[str] = []

    def work(mark: int) -> None:
        for turn in range(1500):
            with Slot(1 + turn % 200) as slot, Slot(32) as other:
                slot.view()[:] = bytes([mark]) * len(slot)
                other.view()[:] = bytes([mark]) * 32
                if set(slot.view()) != {mark} or set(other.view()) != {mark}:
                    wrong.append(f"thread {mark}, turn {turn}")

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def vm_flags(view: memoryview) -> set[str]:
    """Return the kernel's flags of the mapping that a view lies in (proc(5), smaps)."""
    address, inside = mmap_address(view), False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()[0]
        if "-" in head and not head.endswith(":"):
            low, high = (int(end, 16) for end in head.split("-"))
            inside = low <= address < high
        elif inside and line.startswith("VmFlags:"):
            return set(line.split()[1:])
    raise AssertionError("the mapping is not there")


@pytest.mark.requirement("P7")
@pytest.mark.parametrize("secret", [True, False])
def test_the_kernel_confirms_locked_undumpable_uninherited(secret: bool) -> None:
    mapping = Mapping(mmap.PAGESIZE, secret=secret)
    flags = vm_flags(mapping.view)
    assert {"lo", "dd", "dc"} <= flags, "locked, not dumped, not copied on fork"
    if not secret:
        assert "wf" in flags, "wiped on fork where a mapping can be"


def test_this_machine_has_secret_memory_or_says_so() -> None:
    with held():
        assert in_secret_memory() is Mapping(mmap.PAGESIZE).secret


@pytest.mark.requirement("P7")
def test_a_forked_child_holds_no_key_and_makes_its_own() -> None:
    slot = held()
    view = slot.view()
    child = os.fork()
    if child == 0:
        try:
            refused = False
            try:
                slot.view()
            except Broken:
                refused = True
            slot.wipe()
            del view, slot
            gc.collect()
            own = held(b"the child's own")
            os._exit(0 if refused and bytes(own.view()) == b"the child's own" else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bytes(view) == SECRET


LOCKED_DOWN = """
import ctypes, resource
from keyclave.crypto.arena import lock_down
lock_down()
assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
"""
UNLOCKABLE = """
import resource
resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
from keyclave.crypto import locked_memory
locked_memory._libc().prctl(24, 14, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_IPC_LOCK
import os
from keyclave.core.errors import Unavailable
from keyclave.crypto.arena import Slot
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    Slot(32)
except Unavailable as refused:
    assert "RLIMIT_MEMLOCK" in refused.hint
else:
    raise SystemExit("a key went into memory that is not locked")
"""


@pytest.mark.requirement("P7")
@pytest.mark.parametrize("program", [LOCKED_DOWN, UNLOCKABLE], ids=["lock_down", "no memory to lock"])
def test_the_process_is_locked_down_and_keys_never_go_into_ordinary_memory(program: str, repository: Path) -> None:
    source = {"PYTHONPATH": str(repository / "src"), "PATH": os.environ["PATH"]}
    ran = subprocess.run([sys.executable, "-c", program], env=source, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_nothing_is_mapped_by_importing() -> None:
    program = "import keyclave.crypto.arena as a, keyclave.crypto.pyca; assert a._ARENAS._arenas == []"
    ran = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
    assert ran.returncode == 0


def test_the_limit_of_locked_memory_on_this_machine_is_known() -> None:
    assert resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != 0
