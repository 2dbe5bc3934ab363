"""The tree at any size: roots, tiles and proofs agree with the recursive definitions of RFC 6962, and across restarts."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyclave.audit.proofs import prove_consistency, prove_inclusion, tree_root, verify_consistency, verify_inclusion
from keyclave.audit.tiles import HASH, bundle_path, decode_bundle, encode_bundle, parse_path, tile_path, tile_width, tree_tiles
from keyclave.audit.tree import CompactRange, ReadTile, Tree, full_root
from keyclave.core.errors import Broken, Malformed
from keyclave_verify import merkle
from tests.unit.audit.logs import Log

MOST = 1 << 17  # leaves: two full levels and a third begun
ALL = [*range(1, 101), *range(253, 260), 300]  # sizes of which every pair is tried: small ones, and those about a full tile

pytestmark = pytest.mark.requirement("R5", "R7", "R40")


@functools.cache
def big() -> Log:
    """Return the log whose beginnings the tests look at: every size up to `MOST` is in it."""
    return Log(number.to_bytes(4, "big") for number in range(MOST))


@functools.cache
def defined_root(start: int, end: int) -> bytes:
    """Return MTH over leaves `start` to `end` of that log, by definition (RFC 6962 section 2.1)."""
    if end == start:
        return hashlib.sha256(b"").digest()
    if end - start == 1:
        return hashlib.sha256(b"\0" + start.to_bytes(4, "big")).digest()
    middle = start + (1 << ((end - start - 1).bit_length() - 1))
    return hashlib.sha256(b"\1" + defined_root(start, middle) + defined_root(middle, end)).digest()


def leaf(index: int) -> bytes:
    """Return the hash of a leaf of that log."""
    return defined_root(index, index + 1)


sizes = st.integers(0, MOST) | st.integers(0, 8).map(lambda k: min(MOST, 1 << 2 * k)) | st.integers(0, 600)
places = st.tuples(st.integers(0, MOST), st.integers(1, MOST))


def test_every_inclusion() -> None:
    for size in ALL:
        root = defined_root(0, size)
        for index in range(size):
            proof = prove_inclusion(index, size, big().read_tile)
            assert verify_inclusion(leaf(index), index, size, proof, root)
            assert merkle.inclusion_holds(leaf(index), index, size, proof, root)


def test_every_consistency() -> None:
    for new in ALL:
        for old in range(new + 1):
            proof = prove_consistency(old, new, big().read_tile)
            assert verify_consistency(old, defined_root(0, old), new, defined_root(0, new), proof)
            assert merkle.consistency_holds(old, defined_root(0, old), new, defined_root(0, new), proof)
            if old:
                assert merkle.consistency_proof(old, new, big().read_tile) == proof


@given(st.integers(0, MOST // 256 - 1))
def test_the_root_of_a_full_tile_is_the_hash_above_it(index: int) -> None:
    tile = b"".join(map(leaf, range(index * 256, index * 256 + 256)))
    assert full_root(tile) == defined_root(index * 256, index * 256 + 256)


@pytest.mark.parametrize("length", [0, HASH, 255 * HASH, 256 * HASH - 1, 256 * HASH + 1, 512 * HASH])
def test_a_full_tile_has_so_many_bytes(length: int) -> None:
    with pytest.raises(Broken, match=f"{length} bytes"):
        full_root(bytes(length))


@given(sizes)
def test_the_root_is_the_defined_one(size: int) -> None:
    assert tree_root(size, big().read_tile) == defined_root(0, size)
    assert merkle.root_at(size, big().read_tile) == defined_root(0, size)


@given(places)
def test_inclusion_holds_for_this_leaf_and_no_other(place: tuple[int, int]) -> None:
    index, size = place[0] % place[1], place[1]
    proof = prove_inclusion(index, size, big().read_tile)
    for holds in (verify_inclusion, merkle.inclusion_holds):
        assert holds(leaf(index), index, size, proof, defined_root(0, size))
        assert not holds(leaf((index + 1) % MOST), index, size, proof, defined_root(0, size))
        assert size == 1 or not holds(leaf(index), (index + 1) % size, size, proof, defined_root(0, size))
        assert not holds(leaf(index), index, size, proof, defined_root(0, size - 1))


@given(sizes, sizes, st.data())
def test_consistency_holds_for_a_beginning_and_nothing_else(one: int, other: int, data: st.DataObject) -> None:
    old, new = sorted((one, other))
    proof = prove_consistency(old, new, big().read_tile)
    known = (old, defined_root(0, old), new, defined_root(0, new))
    for holds in (verify_consistency, merkle.consistency_holds):
        assert holds(*known, proof)
        assert not holds(*known, [*proof, bytes(HASH)])
        assert not holds(old, bytes(HASH), new, known[3], proof)
        if proof:
            at = data.draw(st.integers(0, len(proof) - 1))
            assert not holds(*known, [*proof[:at], bytes(HASH), *proof[at + 1 :]])
            assert not holds(*known, [*proof[:at], *proof[at + 1 :]])


@given(st.integers(0, 70_000), st.lists(st.integers(0, 400), max_size=4))
def test_a_restored_tree_goes_on_as_if_it_had_never_stopped(size: int, steps: Sequence[int]) -> None:
    tree = Tree.restore(size, big().read_tile)
    edge = CompactRange(size, Tree.restore(size, big().read_tile).edge())
    for step in steps:
        hashes = [leaf(index) for index in range(size, size + step)]
        for tile in tree.append_many(hashes):
            assert tile.data == big().read_tile(tile.level, tile.index, 256)
        edge.append_many(hashes)
        size += step
        tree = Tree.restore(size, stored(tree))
    assert tree.size == edge.size == size
    assert tree.root() == edge.root() == defined_root(0, size)
    partial = {(tile.level, tile.index, tile.width) for tile in tree.partial_tiles()}
    assert partial == {(level, full, width) for level, full, width in tree_tiles(size) if width}


def stored(tree: Tree) -> ReadTile:
    """Return how to read the partial tiles of a tree that is about to be restored from them."""
    tiles = {(tile.level, tile.index, tile.width): tile.data for tile in tree.partial_tiles()}
    return lambda *name: tiles[name]


@given(st.integers(1, 70_000))
def test_a_tile_of_the_wrong_length_restores_nothing(size: int) -> None:
    if size % 256:
        with pytest.raises(Broken):
            Tree.restore(size, lambda level, index, width: big().read_tile(level, index, width)[:-1])
    with pytest.raises(Broken):
        CompactRange(size, [])


@given(st.integers(0, 63), st.integers(0, 10**12), st.integers(1, 256))
def test_a_path_says_what_it_was_made_from(level: int, index: int, width: int) -> None:
    name = parse_path(tile_path(level, index, width))
    assert (name.level, name.index, name.width) == (level, index, width)
    bundle = parse_path(bundle_path(index, width))
    assert (bundle.level, bundle.index, bundle.width) == (None, index, width)


@given(sizes, st.integers(0, 3), st.integers(0, 520))
def test_the_widths_of_a_level_add_up_to_its_hashes(size: int, level: int, index: int) -> None:
    width = tile_width(level, index, size)
    assert width == max(0, min(256, size // 256**level - 256 * index))


@given(st.lists(st.binary(max_size=700), max_size=20), st.data())
def test_a_bundle_gives_back_its_entries_and_no_cut_one_does(entries: list[bytes], data: st.DataObject) -> None:
    bundle = encode_bundle(entries)
    assert decode_bundle(bundle) == entries
    cut = data.draw(st.integers(0, len(bundle)))
    ends = [len(encode_bundle(entries[:count])) for count in range(len(entries) + 1)]
    if cut in ends:
        assert decode_bundle(bundle[:cut]) == entries[: ends.index(cut)]
    else:
        with pytest.raises(Malformed):
            decode_bundle(bundle[:cut])
