"""Random bytes, wrapping, messages, derivation and MACs, as `CryptoModule` promises them: the same for every implementation."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from keyclave.core.errors import Broken, InvalidSignature, KeyclaveError, Malformed, Undecipherable
from keyclave.crypto.arena import LARGEST, Slot, slot_from
from keyclave.crypto.module import CryptoModule
from keyclave.crypto.pyca import PycaModule, fresh_keys
from keyclave.crypto.suites import KeySpec, MacAlgorithm

KEY = bytes(range(32))
INFO = b"canonical info"


def held(content: bytes = KEY) -> Slot:
    return slot_from(bytearray(content))


@pytest.mark.requirement("R12")
def test_random_bytes_are_of_the_length_asked_and_differ(module: CryptoModule) -> None:
    for count in (1, 12, 28, 31, 32, 33, 1000):
        assert len(module.random(count)) == count
        with module.random_slot(count) as slot:
            assert len(slot) == count
    drawn = [module.random(16) for _ in range(2000)]
    with module.random_slot(2048) as one, module.random_slot(2048) as two:
        drawn += [bytes(one.view()[i : i + 16]) for i in range(0, 2048, 16)]
        assert not one.same_as(two)
    assert len(set(drawn)) == len(drawn)
    ones = sum(bin(byte).count("1") for byte in b"".join(drawn))
    assert abs(ones / (len(drawn) * 128) - 0.5) < 0.01


@pytest.mark.parametrize("count", [0, -1, 1 << 30])
def test_absurd_amounts_of_randomness_are_refused(module: CryptoModule, count: int) -> None:
    for ask in (module.random, module.random_slot):
        with pytest.raises(Malformed):
            ask(count)


@pytest.mark.requirement("R1", "R11")
@pytest.mark.parametrize("length", [1, 16, 32, 64, 4000, LARGEST])
def test_what_is_sealed_opens_and_differs_each_time(module: CryptoModule, length: int) -> None:
    secret = bytes(i % 251 for i in range(length))
    with held() as key, held(secret) as slot:
        sealed, again = module.seal(key, slot, b"aad"), module.seal(key, secret, b"aad")
        assert len(sealed) == 12 + length + 16
        assert sealed[:12] != again[:12]
        for each in (sealed, again):
            with module.open_slot(key, each, b"aad") as opened:
                assert opened.same_as(slot)


@pytest.mark.requirement("R1", "R11")
@given(at=st.integers(0, 12 + 32 + 16 - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_does_not_open(at: int, bit: int) -> None:
    module = PycaModule()
    module.ready = True  # tested already: hundreds of examples need not repeat it
    with held() as key, module.random_slot(32) as secret:
        sealed = bytearray(module.seal(key, secret, b"aad"))
        sealed[at] ^= 1 << bit
        with pytest.raises(Undecipherable):
            module.open_slot(key, bytes(sealed), b"aad")


@pytest.mark.requirement("R11")
def test_what_does_not_open_says_nothing_finer_than_that(module: CryptoModule) -> None:
    with held() as key, held(KEY[::-1]) as other:
        sealed = module.seal(key, b"secret", b"aad")
        wrapped = module.kwp_wrap(key, other)
        attempts: list[Callable[[], Any]] = [
            lambda: module.open_slot(other, sealed, b"aad"),
            lambda: module.open_slot(key, sealed, b"other"),
            lambda: module.open_slot(key, sealed[:-1], b"aad"),
            lambda: module.open_slot(key, sealed + b"\0", b"aad"),
            lambda: module.open_slot(key, b"", b"aad"),
            lambda: module.open_slot(key, bytes(28), b"aad"),
            lambda: module.open_slot(key, bytes(12 + LARGEST), b"aad"),
            lambda: module.kwp_unwrap(other, wrapped),
            lambda: module.kwp_unwrap(key, wrapped[:-8]),
            lambda: module.kwp_unwrap(key, wrapped[:-1]),
            lambda: module.kwp_unwrap(key, b""),
        ]
        answers = set()
        for attempt in attempts:
            with pytest.raises(Undecipherable) as refused:
                attempt()
            answers.add((type(refused.value), refused.value.detail, refused.value.hint, refused.value.__cause__))
            assert refused.value.__suppress_context__ or refused.value.__context__ is None
        assert len(answers) == 1


def test_opening_more_than_a_slot_holds_is_refused(module: CryptoModule) -> None:
    with held() as key:
        sealed = module.seal(key, bytes(LARGEST + 1), b"")
        with pytest.raises(Malformed):
            module.open_slot(key, sealed, b"")


@pytest.mark.requirement("R11")
@pytest.mark.parametrize("length", [1, 7, 8, 9, 20, 32, 2400])
def test_kwp_gives_back_any_length(module: CryptoModule, length: int) -> None:
    with held() as key, module.random_slot(length) as secret:
        wrapped = module.kwp_wrap(key, secret)
        assert len(wrapped) == -(-length // 8) * 8 + 8
        with module.kwp_unwrap(key, wrapped) as again:
            assert again.same_as(secret)


@pytest.mark.requirement("R12")
@pytest.mark.parametrize("length", [1, 31, 33, 48, 64])
def test_an_aes_key_has_a_length_of_aes(module: CryptoModule, length: int) -> None:
    with module.random_slot(length) as key, module.random_slot(32) as secret:
        calls: list[Callable[[], Any]] = [
            lambda: module.seal(key, secret, b""),
            lambda: module.open_slot(key, bytes(64), b""),
            lambda: module.kwp_wrap(key, secret),
            lambda: module.kwp_unwrap(key, bytes(24)),
        ]
        for call in calls:
            with pytest.raises(Malformed):
                call()


@pytest.mark.requirement("R1", "R11")
def test_a_message_is_what_the_specification_says(module: CryptoModule) -> None:
    """spec/envelope.md, computed here by other means: HMAC of Python, one block of SP 800-108 in counter mode."""
    derived = hmac.digest(KEY, b"\x00\x00\x00\x01" + INFO, "sha512")
    with held() as key, held(derived[:32]) as message_key:
        sealer = module.message_sealer(key, INFO)
        assert sealer.commitment == derived[32:]
        iv = bytes(range(12))
        sealed = sealer.seal(iv, b"plaintext", b"aad")
        with module.open_slot(message_key, iv + sealed, b"aad") as opened:
            assert bytes(opened.view()) == b"plaintext"
        assert module.open_message(key, INFO, sealer.commitment, iv, memoryview(sealed), b"aad") == b"plaintext"


@pytest.mark.requirement("R11")
def test_a_message_opens_only_as_it_was_sealed(module: CryptoModule) -> None:
    iv = bytes(12)
    with held() as key, held(KEY[::-1]) as other:
        sealer = module.message_sealer(key, INFO)
        sealed, commitment = sealer.seal(iv, b"plaintext", b"aad"), sealer.commitment
        good = (key, INFO, commitment, iv, sealed, b"aad")
        assert module.open_message(*good) == b"plaintext"
        for place, wrong in [
            (0, other), (1, b"other info"), (2, bytes(32)), (2, commitment[:31]), (2, b""), (3, b"\x01" + bytes(11)), (3, bytes(16)),
            (3, b""), (4, sealed[:-1]), (4, sealed[:15]), (4, b""), (5, b"other"),
        ]:  # fmt: skip
            with pytest.raises(Undecipherable):
                module.open_message(*good[:place], wrong, *good[place + 1 :])  # type: ignore[arg-type]


@pytest.mark.requirement("R11")
def test_a_ciphertext_made_to_open_under_two_keys_is_refused_by_the_commitment(module: CryptoModule) -> None:
    """GCM alone does not bind a ciphertext to its key; whoever knows two keys can make one that opens under both."""
    with held() as key, held(KEY[::-1]) as other:
        mine, theirs = module.message_sealer(key, INFO), module.message_sealer(other, INFO)
        sealed = theirs.seal(bytes(12), b"plaintext", b"")
        assert module.open_message(other, INFO, theirs.commitment, bytes(12), sealed, b"") == b"plaintext"
        with pytest.raises(Undecipherable):
            module.open_message(key, INFO, theirs.commitment, bytes(12), sealed, b"")
        with pytest.raises(Undecipherable):
            module.open_message(other, INFO, mine.commitment, bytes(12), sealed, b"")


def test_the_parts_of_a_message_share_a_key_and_take_any_buffer(module: CryptoModule) -> None:
    with held() as key, held(b"from locked memory") as secret:
        sealer = module.message_sealer(key, INFO)
        parts = [b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview"), secret.view(), b""]
        for number, part in enumerate(parts):
            iv = number.to_bytes(12, "big")
            assert module.open_message(key, INFO, sealer.commitment, iv, sealer.seal(iv, part, b""), b"") == bytes(part)
        for iv in (b"", bytes(8), bytes(11), bytes(13), bytes(16)):
            with pytest.raises(Malformed):
                sealer.seal(iv, b"", b"")


def test_parts_sealed_at_once_are_those_sealed_one_by_one(module: CryptoModule) -> None:
    with held() as key:
        sealer = module.message_sealer(key, INFO)
        ivs = [number.to_bytes(12, "big") for number in range(40)]
        parts = [bytes(number) for number in range(40)]
        aads = [b"aad %d" % number for number in range(40)]
        together = sealer.seal_all(ivs, parts, aads)
        assert together == [sealer.seal(iv, part, aad) for iv, part, aad in zip(ivs, parts, aads, strict=True)]
        assert sealer.seal_all([], [], []) == []
        for wrong in (
            (ivs, parts[1:], aads), (ivs, parts, aads[1:]), (ivs[1:], parts, aads),
            ([*ivs[:-1], bytes(11)], parts, aads), ([bytes(16), *ivs[1:]], parts, aads),
        ):  # fmt: skip
            with pytest.raises(Malformed):
                sealer.seal_all(*wrong)


def test_threads_do_not_share_what_they_derive(module: CryptoModule) -> None:
    wrong: list[int] = []

    def work(mark: int) -> None:
        with held(bytes([mark]) * 32) as key:
            for turn in range(400):
                info = b"%d" % turn
                expected = hmac.digest(bytes([mark]) * 32, b"\x00\x00\x00\x01" + info, "sha512")[32:]
                sealer = module.message_sealer(key, info)
                sealed = sealer.seal(bytes(12), info, b"")
                opened = module.open_message(key, info, sealer.commitment, bytes(12), sealed, b"")
                if sealer.commitment != expected or opened != info:
                    wrong.append(mark)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.requirement("R12")
@pytest.mark.parametrize("count", [1, 16, 32, 64, 65, 200])
def test_derived_bytes_are_those_of_sp_800_108(module: CryptoModule, count: int) -> None:
    blocks = b"".join(hmac.digest(KEY, n.to_bytes(4, "big") + INFO, "sha512") for n in range(1, 5))
    with held() as key, module.derive(key, INFO, count) as derived:
        assert bytes(derived.view()) == blocks[:count]
    with held() as key, pytest.raises(Malformed):
        module.derive(key, INFO, 0)


@pytest.mark.requirement("R12", "R14")
@pytest.mark.parametrize("algorithm", MacAlgorithm)
def test_a_mac_verifies_or_is_refused(module: CryptoModule, algorithm: MacAlgorithm) -> None:
    with held(bytes(KeySpec(algorithm.value).length)) as key:
        mac = module.mac(key, algorithm, memoryview(b"message"))
        assert mac == hmac.digest(bytes(key.view()), b"message", algorithm.value.removeprefix("hmac-").replace("-", ""))
        module.verify_mac(key, algorithm, b"message", mac)
        for wrong in (mac[:-1], mac + b"\0", b"", bytes(len(mac)), mac[:-1] + bytes([mac[-1] ^ 1])):
            with pytest.raises(InvalidSignature):
                module.verify_mac(key, algorithm, b"message", wrong)
        with pytest.raises(InvalidSignature):
            module.verify_mac(key, algorithm, b"massage", mac)


def test_a_key_check_value_tells_keys_apart(module: CryptoModule) -> None:
    with held() as key, held(KEY[::-1]) as other:
        assert module.key_check(key) == hmac.digest(KEY, b"keyclave/key-check/1", "sha256")[:4].hex()
        assert module.key_check(key) != module.key_check(other)


@pytest.mark.requirement("R4", "P7")
@pytest.mark.parametrize("length", [16, 24, 32, 48, 64])
@pytest.mark.parametrize("count", [0, 1, 2, 300, 1100])
def test_keys_made_sealed_are_there_when_they_are_opened_and_nowhere_before(
    module: CryptoModule, length: int, count: int
) -> None:
    """More than fit into one secret's memory at once, too."""
    places = [b"place %d" % number for number in range(count)]
    with held() as key:
        made = module.make_sealed(key, length, places)
        assert len(made) == count
        seen, ivs = set(), set()
        for place, (check, sealed) in zip(places, made, strict=True):
            assert len(sealed) == 12 + length + 16
            with module.open_slot(key, sealed, place) as opened:
                assert len(opened) == length and module.key_check(opened) == check
                seen.add(bytes(opened.view()))
            ivs.add(sealed[:12])
        assert len(seen) == len(ivs) == count and bytes(length) not in seen
        for _, sealed in made[:1]:
            with pytest.raises(Undecipherable):
                module.open_slot(key, sealed, b"another place")


@pytest.mark.requirement("P7")
@pytest.mark.parametrize("tampered", ["iv", "ciphertext", "another key"])
def test_a_key_that_does_not_open_again_is_never_handed_out(
    module: CryptoModule, tampered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that forgets between sealing and storing: it is found out before anything is protected by the key."""

    class Forgetful:
        def __init__(self, key: Any) -> None:
            self.real = AESGCM(key)

        def encrypt(self, iv: bytes, plaintext: Any, aad: bytes) -> bytes:
            if tampered == "another key":
                return self.real.encrypt(iv, bytes(plaintext)[:-1] + b"?", aad)
            sealed = self.real.encrypt(iv if tampered != "iv" else bytes(12), plaintext, aad)
            return sealed if tampered == "iv" else sealed[:3] + bytes([sealed[3] ^ 1]) + sealed[4:]

        def decrypt_into(self, *arguments: Any) -> int:
            return self.real.decrypt_into(*arguments)

    monkeypatch.setattr(fresh_keys, "AESGCM", Forgetful)
    with held() as key, pytest.raises(Broken, match="does not open again"):
        module.make_sealed(key, 32, [b"a", b"b"])


@pytest.mark.requirement("P7")
def test_a_wiped_key_is_refused_by_every_call(module: CryptoModule) -> None:
    with held() as live:
        sealed = module.seal(live, b"x", b"")
        wrapped = module.kwp_wrap(live, live)
        key = held()
        key.wipe()
        calls: list[Callable[[], Any]] = [
            lambda: module.seal(key, b"x", b""), lambda: module.seal(live, key, b""), lambda: module.open_slot(key, sealed, b""),
            lambda: module.kwp_wrap(key, live), lambda: module.kwp_wrap(live, key), lambda: module.kwp_unwrap(key, wrapped),
            lambda: module.message_sealer(key, INFO), lambda: module.open_message(key, INFO, bytes(32), bytes(12), bytes(20), b""),
            lambda: module.derive(key, INFO, 32), lambda: module.mac(key, MacAlgorithm.HMAC_SHA_256, b""),
            lambda: module.key_check(key), lambda: module.make_sealed(key, 32, [b""]),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(Broken):
                call()


class WipedWhileInUse(Slot):
    """A slot that another thread wipes right after its view was taken."""

    __slots__ = ()

    def view(self) -> memoryview:
        view = super().view()
        self.wipe()
        return view

    def __len__(self) -> int:
        return 32


@pytest.mark.requirement("P7")
def test_nothing_made_with_a_key_that_is_wiped_meanwhile_gets_out(module: CryptoModule) -> None:
    """Its view reads zeros from then on: a message under the all-zero key would be readable by everybody."""
    calls: list[Callable[[Slot], Any]] = [
        lambda key: module.seal(key, b"x", b""),
        lambda key: module.kwp_wrap(key, held()),
        lambda key: module.message_sealer(key, INFO),
        lambda key: module.derive(key, INFO, 32),
        lambda key: module.mac(key, MacAlgorithm.HMAC_SHA_256, b""),
        module.key_check,
        lambda key: module.make_sealed(key, 32, [b"", b""]),
        lambda key: module.seal(held(), key, b""),
        lambda key: module.kwp_wrap(held(), key),
    ]
    for call in calls:
        with pytest.raises(Broken):
            call(WipedWhileInUse(32))


@given(st.binary(max_size=200), st.binary(max_size=40), st.binary(max_size=40))
def test_no_input_makes_anything_but_our_errors(blob: bytes, aad: bytes, other: bytes) -> None:
    module = PycaModule()
    module.ready = True
    with held() as key:
        calls: list[Callable[[], Any]] = [
            lambda: module.open_slot(key, blob, aad),
            lambda: module.kwp_unwrap(key, blob),
            lambda: module.open_message(key, aad, other, other, blob, aad),
            lambda: module.verify_mac(key, MacAlgorithm.HMAC_SHA_256, aad, blob),
        ]
        for call in calls:
            with pytest.raises(KeyclaveError):
                call()
