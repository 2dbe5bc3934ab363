"""After use no key is to be found in the process's memory: another process reads all of it and looks for every key it was told.

What the kernel does not let even this reader see (pages of memfd_secret) is counted and must be the arena and nothing else. The two
controls show that the search finds keys where they are: held as bytes, and dropped as bytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.failure.key_user import DATA_KEYS, PAIRS

USER = Path(__file__).with_name("key_user.py")
NOT_MEMORY = ("[vvar", "[vsyscall]")  # the kernel's own pages


@dataclass
class Seen:
    """What a process told, and what could be read of it."""

    keys: list[bytes]
    regions: list[bytes]
    unreadable: list[str]  # mappings that the kernel refuses to show

    def found(self, part: slice = slice(None)) -> int:
        """Count the keys of which `part` lies in memory, as it is or backwards (as OpenSSL's numbers are stored)."""
        needles = {form: number for number, key in enumerate(self.keys) for form in (key[part], key[part][::-1])}
        words = {int.from_bytes(needle[:8], sys.byteorder) for needle in needles}
        hit = set()
        for region in self.regions:
            for shift in range(8):
                end = shift + (len(region) - shift) // 8 * 8
                words_here = words.intersection(memoryview(region)[shift:end].cast("Q"))
                starts = {word.to_bytes(8, sys.byteorder) for word in words_here}
                hit |= {number for needle, number in needles.items() if needle[:8] in starts and needle in region}
        return len(hit)


def told(descriptor: int) -> list[bytes]:
    keys = []
    with os.fdopen(descriptor, "rb") as pipe:
        while length := int.from_bytes(pipe.read(4), "little"):
            keys.append(pipe.read(length))
    return keys


def memory_of(process: int) -> tuple[list[bytes], list[str]]:
    regions, unreadable = [], []
    with open(f"/proc/{process}/mem", "rb", 0) as memory:
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            span, permissions, *rest = line.split(maxsplit=5)
            name = rest[3] if len(rest) > 3 else ""
            if permissions[0] != "r" or name.startswith(NOT_MEMORY):
                continue
            low, high = (int(end, 16) for end in span.split("-"))
            memory.seek(low)
            try:
                content = memory.read(high - low)
            except OSError:
                unreadable.append(name)
                continue
            assert len(content) == high - low, f"{name} was read in part"
            regions.append(content)
    return regions, unreadable


def look_at(how: str, repository: Path) -> Seen:
    read, write = os.pipe()
    # as the server's programs give it to themselves: binding a function at its first call leaves registers on the stack
    environment = {"PYTHONPATH": str(repository / "src"), "PATH": os.environ["PATH"], "LD_BIND_NOW": "1"}
    with subprocess.Popen(
        [sys.executable, str(USER), how, str(write)], pass_fds=[write], stdin=subprocess.PIPE, env=environment
    ) as process:
        os.close(write)
        keys = told(read)
        assert process.poll() is None, "it ended before it could be looked at"
        regions, unreadable = memory_of(process.pid)
        process.communicate(b"\n")
        assert process.returncode == 0
    return Seen(keys, regions, unreadable)


@pytest.mark.requirement("R1", "R4", "R11", "P7")
def test_no_key_is_left_in_memory_after_use(repository: Path) -> None:
    seen = look_at("slots", repository)
    pairs = sum(count for count, _, _ in PAIRS.values())
    assert len(seen.keys) > 3 * DATA_KEYS + pairs
    assert len(set(seen.keys)) == len(seen.keys)
    assert seen.found() == 0
    # half of an AES-256 key is worth nothing yet; one may linger in a register saved on the stack
    assert seen.found(slice(0, 16)) + seen.found(slice(16, 32)) <= 2
    assert all("secretmem" in name for name in seen.unreadable), "only the arena escapes this search"
    assert sum(map(len, seen.regions)) > 1 << 24


@pytest.mark.requirement("P7")
def test_the_search_finds_keys_that_are_held_as_bytes(repository: Path) -> None:
    seen = look_at("kept", repository)
    assert seen.found() == DATA_KEYS  # those, and none of those derived from them


@pytest.mark.requirement("P7")
def test_the_search_finds_keys_that_were_dropped_as_bytes(repository: Path) -> None:
    """Python's collector frees, it does not wipe: what a program without locked memory leaves behind."""
    seen = look_at("dropped", repository)
    assert seen.found() > DATA_KEYS // 2
