"""Bad input: every limit at its edge, every field with what does not belong there, and no value of a request in any error."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from keyclave.policy.duties import SCOPED
from tests.live import Live
from tests.protocols.answered import code
from tests.protocols.every import b64

KIB64 = 64 * 1024
BODY = 8 * 1024 * 1024


@pytest.fixture(scope="module")
def app(live: Live) -> str:
    """Return a token for the keys `lim-…`."""
    live.create_key("lim-aes")
    live.create_key("lim-mac", spec="hmac-sha-256", purpose="mac")
    live.create_key("lim-sign", spec="ed25519", purpose="sign")
    return live.token(sorted(SCOPED), ["lim-*"])


def raw(live: Live, app: str, body: bytes, path: str = "/v1/keys/lim-aes/encrypt") -> httpx.Response:
    return live.request("POST", path, app, content=body)


# ---- JSON ---------------------------------------------------------------------------------------------------------------------
NOT_JSON: dict[str, bytes] = {
    "empty": b"",
    "cut off": b'{"plaintext": "',
    "nothing but space": b"   ",
    "an array": b"[]",
    "a number": b"17",
    "null": b"null",
    "a string": b'"plaintext"',
    "two values": b'{"plaintext": ""} {}',
    "trailing comma": b'{"plaintext": "",}',
    "single quotes": b"{'plaintext': ''}",
    "a comment": b'{"plaintext": "" /* x */}',
    "NaN": b'{"plaintext": NaN}',
    "Infinity": b'{"plaintext": -Infinity}',
    "byte order mark": b'\xef\xbb\xbf{"plaintext": ""}',
    "UTF-16": '{"plaintext": ""}'.encode("utf-16"),
    "not UTF-8 in a value": b'{"plaintext": "\xff"}',
    "not UTF-8 in a name": b'{"plaintext\xc3": ""}',
    "not UTF-8 in a context": b'{"plaintext": "", "context": {"a": "\xed\xa0\x80"}}',
    "overlong UTF-8": b'{"plaintext": "", "context": {"a": "\xc0\xaf"}}',
    "half a surrogate pair": b'{"plaintext": "", "context": {"a": "\\ud800"}}',
    "a bare control character": b'{"plaintext": "", "context": {"a": "\n"}}',
    "a NUL byte": b'{"plaintext": ""}\x00',
    "100,000 arrays": b'{"plaintext": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100,000 objects in an unknown field": b'{"plaintext": "", "x": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    "100,000 objects in the context": b'{"plaintext": "", "context": ' + b'{"a":' * 100_000 + b'""' + b"}" * 100_000 + b"}",
    "form data": b"plaintext=",
}  # fmt: skip


@pytest.mark.requirement("R5")
@pytest.mark.parametrize("what", NOT_JSON)
def test_a_body_that_is_not_a_request_is_malformed(live: Live, app: str, what: str) -> None:
    answer = raw(live, app, NOT_JSON[what])
    assert (answer.status_code, code(answer)) == (400, "malformed")
    assert answer.json()["event"]  # somebody known tried: the log has it
    assert raw(live, app, b'{"plaintext": ""}').status_code == 200  # on the same connection


@pytest.mark.parametrize(
    "body",
    [
        {"plaintext": 1}, {"plaintext": None}, {"plaintext": ["eA=="]}, {"plaintext": {"a": "b"}}, {"plaintext": True}, {},
        {"plaintext": "", "context": []}, {"plaintext": "", "context": None}, {"plaintext": "", "context": {"a": 1}},
        {"plaintext": "", "context": {"a": None}}, {"plaintext": "", "context": {"a": ["x"]}}, {"plaintext": "", "contxt": {}},
        {"plaintext": "", "Context": {}}, {"plaintext": "", "ciphertext": ""}, {"plaintext": "", "event": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_types_and_unknown_fields_are_malformed(live: Live, app: str, body: Any) -> None:
    assert code(live.post("/v1/keys/lim-aes/encrypt", app, body)) == "malformed"


@pytest.mark.requirement("P8")
def test_a_field_that_is_there_twice_is_refused_and_nothing_of_it_is_recorded(live: Live, app: str) -> None:
    refused = raw(live, app, b'{"plaintext": "", "context": {"a": "1"}, "context": {"b": "2", "b": "3"}}')
    assert (refused.status_code, code(refused)) == (400, "malformed")
    number = int(refused.json()["event"].rpartition("-")[2])
    page = live.get("/v1/audit/events", "auditor", params={"from": number, "limit": 1}).json()["events"]
    assert (page[0]["id"], page[0]["outcome"], "context" in page[0]) == (refused.json()["event"], "malformed", False)


@pytest.mark.parametrize(
    "text",
    [
        "e",
        "eA",
        "eA=",
        "eA===",
        "eA==\n",
        " eA==",
        "eA==eA==",
        "-_8=",
        "e!==",
        "eé==",
        "=",
        "====",
        "eB==",
        "eHn=",
        "eA==A",
        "\u0000A==",
    ],
    ids=repr,
)
def test_base64_has_one_spelling(live: Live, app: str, text: str) -> None:
    for path, body in [
        ("lim-aes/encrypt", {"plaintext": text}), ("lim-aes/decrypt", {"ciphertext": text}), ("lim-mac/mac", {"message": text}),
        ("lim-mac/verify-mac", {"message": "", "mac": text}), ("lim-aes/wrap", {"material": text}),
    ]:  # fmt: skip
        assert code(live.post(f"/v1/keys/{path}", app, body)) == "malformed"
    batch = live.post("/v1/keys/lim-aes/encrypt/batch", app, {"items": [{"plaintext": text}, {"plaintext": "eA=="}]}).json()
    assert [r.get("error", {}).get("code") for r in batch["results"]] == ["malformed", None]


@pytest.mark.parametrize(
    "number", ["1e400", "-1", "0", "1.5", "32.0", "1e1", "true", '"32"', "99999999999999999999", "9" * 5000, "null", "[]"]
)
def test_numbers_are_whole_and_in_range(live: Live, app: str, number: str) -> None:
    body = b'{"bytes": %b}' % number.encode()
    assert code(raw(live, app, body, "/v1/random")) == "malformed"
    assert code(raw(live, app, body, "/v1/keys/lim-aes/data-key")) == "malformed"
    body = b'{"message": "", "mac": "", "version": %b}' % number.encode()
    if number != "null":
        assert code(raw(live, app, body, "/v1/keys/lim-mac/verify-mac")) == "malformed"


# ---- edges --------------------------------------------------------------------------------------------------------------------
def full_context(size: int) -> dict[str, str]:
    """Return a context of exactly `size` canonical bytes: each entry is its name, its value and twice four bytes."""
    context = {f"n{i}": "v" * 1000 for i in range(8)}
    used = sum(8 + len(n) + len(v) for n, v in context.items())
    return {**context, "z": "v" * (size - used - 9)}


AES, MAC, SIGN, RANDOM = "/v1/keys/lim-aes/", "/v1/keys/lim-mac/", "/v1/keys/lim-sign/", "/v1/random"
Edge = tuple[str, Callable[[int], dict[str, Any]], int, str]

EDGES: dict[str, Edge] = {
    "plaintext": (AES + "encrypt", lambda n: {"plaintext": b64(bytes(n))}, KIB64, "too_large"),
    "ciphertext": (AES + "decrypt", lambda n: {"ciphertext": b64(bytes(n))}, KIB64 + 101, "too_large"),
    "re-encryption": (AES + "re-encrypt", lambda n: {"ciphertext": b64(bytes(n))}, KIB64 + 101, "too_large"),
    "wrapped": (AES + "unwrap", lambda n: {"wrapped": b64(bytes(n))}, KIB64 + 101, "too_large"),
    "material": (AES + "wrap", lambda n: {"material": b64(bytes(n))}, 8192, "too_large"),
    "message to MAC": (MAC + "mac", lambda n: {"message": b64(bytes(n))}, KIB64, "too_large"),
    "message to sign": (SIGN + "sign", lambda n: {"message": b64(bytes(n))}, KIB64, "too_large"),
    "signature": (SIGN + "verify", lambda n: {"message": "", "signature": b64(bytes(n))}, 8192, "too_large"),
    "random": (RANDOM, lambda n: {"bytes": n}, 1024, "malformed"),
    "data key": (AES + "data-key", lambda n: {"bytes": n}, 1024, "malformed"),
    "version": (MAC + "verify-mac", lambda n: {"message": "", "mac": "", "version": n}, 2**31 - 1, "malformed"),
    "context entries": (
        AES + "encrypt", lambda n: {"plaintext": "", "context": {f"n{i}": "v" for i in range(n)}}, 32, "malformed",
    ),
    "context name": (AES + "encrypt", lambda n: {"plaintext": "", "context": {"n" * n: "v"}}, 128, "malformed"),
    "context value": (AES + "encrypt", lambda n: {"plaintext": "", "context": {"n": "v" * n}}, 1024, "too_large"),
    "context value of wide characters": (
        AES + "encrypt", lambda n: {"plaintext": "", "context": {"n": "\U0001f489" * n}}, 1024, "too_large",
    ),
    "context bytes": (AES + "encrypt", lambda n: {"plaintext": "", "context": full_context(n)}, 8192, "too_large"),
    "batch": (AES + "data-key/batch", lambda n: {"items": [{"plaintext": False}] * n}, 1000, "malformed"),
}  # fmt: skip


@pytest.mark.requirement("R12", "R14")
@pytest.mark.parametrize("what", EDGES)
def test_the_last_one_within_a_limit_is_taken_and_the_first_beyond_it_refused(live: Live, app: str, what: str) -> None:
    path, body, most, refusal = EDGES[what]
    taken = code(live.post(path, app, body(most)))
    assert taken in ("ok", "undecipherable", "invalid_signature", "unknown")  # looked at, at least
    answer = live.post(path, app, body(most + 1))
    assert code(answer) == refusal
    assert answer.status_code == {"too_large": 413, "malformed": 400}[refusal]
    if what in ("plaintext", "message to MAC", "context bytes"):  # one item over the limit harms no other
        results = live.post(f"{path}/batch", app, {"items": [body(most + 1), body(most)]}).json()["results"]
        assert [r.get("error", {}).get("code") for r in results] == [refusal, None]


@pytest.mark.requirement("R12")
@pytest.mark.parametrize(("path", "least"), [(RANDOM, 1), (AES + "data-key", 16)])
def test_the_least_number_of_bytes(live: Live, app: str, path: str, least: int) -> None:
    assert code(live.post(path, app, {"bytes": least})) == "ok"
    assert code(live.post(path, app, {"bytes": least - 1})) == "malformed"


def test_a_context_of_another_form_is_refused_wherever_a_context_goes(live: Live, app: str) -> None:
    sealed = live.post(AES + "encrypt", app, {"plaintext": ""}).json()["ciphertext"]
    wrapped = live.post(AES + "wrap", app, {"material": "eA=="}).json()["wrapped"]
    bad: list[dict[str, str]] = [
        {"": "v"}, {"two words": "v"}, {"tab\t": "v"}, {"line\n": "v"}, {"naïve": "v"}, {"del\x7f": "v"},
        {"n": "line\nbreak"}, {"n": "nul\x00"}, {"n": "escape\x1b[2J"}, {"n": "csi\x9b2J"}, {"n": "del\x7f"},
    ]  # fmt: skip
    good = [{"!~": ""}, {"n": "Müller-Lüdenscheidt, Ægir 東京"}]
    for verb, body in [
        ("encrypt", {"plaintext": ""}), ("decrypt", {"ciphertext": sealed}), ("re-encrypt", {"ciphertext": sealed}),
        ("data-key", {}), ("data-key-pair", {"spec": "ed25519"}), ("wrap", {"material": "eA=="}), ("unwrap", {"wrapped": wrapped}),
    ]:  # fmt: skip
        for context in bad:
            assert code(live.post(AES + verb, app, {**body, "context": context})) == "malformed", (verb, context)
    for context in bad:
        answer = live.post(AES + "re-encrypt", app, {"ciphertext": sealed, "to_context": context})
        assert code(answer) == "malformed"
    for context in good:
        made = live.post(AES + "encrypt", app, {"plaintext": "eA==", "context": context}).json()["ciphertext"]
        assert live.post(AES + "decrypt", app, {"ciphertext": made, "context": context}).json()["plaintext"] == "eA=="


@pytest.mark.requirement("R13")
@pytest.mark.parametrize(
    ("fields", "good"),
    [
        ({"name": "L" * 128}, True), ({"name": "L" * 129}, False), ({"name": ""}, False), ({"name": "-x"}, False),
        ({"name": "a b"}, False), ({"name": "a\n"}, False), ({"name": "ключ"}, False), ({"name": "key_" + "a" * 26}, False),
        ({"name": "a/b"}, False), ({"name": "../up"}, False), ({"name": "ok.a_b-c:d"}, True),
        ({"owner": "o" * 128}, True), ({"owner": "o" * 129}, False), ({"owner": ""}, False), ({"owner": "o\n"}, False),
        ({"owner": "Ärztin, 3. Stock"}, True), ({"environment": "e" * 129}, False), ({"classification": "\x07"}, False),
        ({"tags": {f"t{i}": "v" for i in range(50)}}, True), ({"tags": {f"t{i}": "v" for i in range(51)}}, False),
        ({"tags": {"t" * 128: "v" * 256}}, True), ({"tags": {"t" * 129: "v"}}, False), ({"tags": {"t": "v" * 257}}, False),
        ({"tags": {"t": "v\n"}}, False), ({"tags": {"t": 1}}, False), ({"tags": {"t": "\x1b[31m"}}, False),
        ({"cryptoperiod": {"protect_days": 1, "process_days": 1}}, True),
        ({"cryptoperiod": {"protect_days": 10950, "process_days": 10950}}, True),
        ({"cryptoperiod": {"protect_days": 10950, "process_days": 10951}}, False),
        ({"cryptoperiod": {"protect_days": 0, "process_days": 5}}, False),
        ({"cryptoperiod": {"protect_days": 6, "process_days": 5}}, False),
        ({"cryptoperiod": {"protect_days": 10**30, "process_days": 10**30}}, False),
        ({"cryptoperiod": {"protect_days": 5}}, False),
        ({"rotation": {"every_days": 1}}, True), ({"rotation": {"every_days": 0}}, False), ({"rotation": {"every_days": -5}}, False),
        ({"rotation": {"every_days": 10**30}}, False), ({"rotation": {"every_days": 5, "reason": "r" * 501}}, False),
        ({"rotation": {"every_days": 5, "reason": "r\n"}}, False),
        ({"spec": "aes-128"}, False), ({"spec": ""}, False), ({"spec": "AES-256"}, False), ({"purpose": "sign"}, False),
        ({"purpose": "everything"}, False), ({"activate": "yes"}, False), ({"id": "key_x"}, False),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_what_is_said_of_a_key_has_limits(live: Live, fields: dict[str, Any], good: bool) -> None:
    body = {"name": f"said-{abs(hash(str(fields)))}", "owner": "o", **fields}
    answer = live.post("/v1/keys", "custodian", body)
    assert answer.status_code == (201 if good else 400), answer.text
    if good:
        assert {n: answer.json()[n] for n in fields} == fields
        assert live.get(f"/v1/keys/{body['name']}", "custodian").json()["id"] == answer.json()["id"]
    else:
        assert code(answer) == "malformed"


def test_reasons_idempotency_keys_and_revisions_have_limits(live: Live) -> None:
    live.create_key("lim-change")
    path = "/v1/keys/lim-change/rotate"
    assert code(live.post(path, "operator", {"reason": "r" * 500})) == "ok"
    for reason in ("r" * 501, "line\n", "a\x00b", 5):
        assert code(live.post(path, "operator", {"reason": reason})) == "malformed"
    assert code(live.post(path, "operator", headers={"idempotency-key": "k" * 128})) == "ok"
    for key in ("k" * 129, "a\tb", "ü"):
        assert code(live.post(path, "operator", headers={"idempotency-key": key.encode()})) == "malformed"
    for revision in ('"x"', "*", "W/1", "-1", '"', "9" * 10, "1, 2"):
        assert code(live.post(path, "operator", headers={"if-match": revision})) == "malformed"
    for query in ("dry_run=maybe", "dry_run", "dry-run=true", "dry_run=true&dry_run=true", "x=1"):
        assert code(live.post(f"{path}?{query}", "operator")) == "malformed"
    assert (
        code(live.post("/v1/keys/lim-aes/encrypt?dry_run=true", live.token(["encrypt"], ["*"]), {"plaintext": ""})) == "malformed"
    )
    assert live.get("/v1/keys/lim-change", "custodian").json()["primary"] == 3


@pytest.mark.requirement("R5")
def test_an_idempotency_key_is_bound_to_its_request(live: Live) -> None:
    body, headers = {"name": "lim-once", "owner": "o"}, {"idempotency-key": "lim-once"}
    first = live.post("/v1/keys", "custodian", body, headers=headers)
    again = live.post("/v1/keys", "custodian", body, headers=headers)
    assert (again.status_code, again.content, again.headers["idempotent-replayed"]) == (201, first.content, "true")
    for path, other in [
        ("/v1/keys", {**body, "owner": "x"}),
        ("/v1/keys", {**body, "name": "lim-twice"}),
        ("/v1/keys/lim-once/activate", {}),
    ]:
        reused = live.post(path, "custodian", other, headers=headers)
        assert (reused.status_code, code(reused)) == (422, "idempotency_reuse")
    assert code(live.get("/v1/keys/lim-twice", "custodian")) == "unknown"


# ---- sizes of requests --------------------------------------------------------------------------------------------------------
def test_a_body_of_eight_mebibytes_is_read_and_one_byte_more_is_not(live: Live, app: str) -> None:
    body = b'{"plaintext": ""}'
    assert raw(live, app, body + b" " * (BODY - len(body))).status_code == 200
    over = raw(live, app, body + b" " * (BODY - len(body) + 1))
    assert (over.status_code, over.json()["code"], over.headers["connection"]) == (413, "too_large", "close")
    assert live.request("POST", "/v1/keys/lim-aes/rotate", "operator", content=b" " * (BODY + 1)).status_code == 413
    assert live.request("POST", "/v1/unseal", content=b" " * (BODY + 1)).status_code == 401  # nobody's body is not read so far
    assert live.request("PATCH", "/v1/keys/lim-aes", "custodian", content=b" " * (BODY + 1)).status_code == 413

    def endless() -> Iterator[bytes]:
        for _ in range(64):
            yield b" " * (1 << 20)

    # in chunks, of no stated length: the answer comes before the end, and may be lost with the connection
    with contextlib.suppress(httpx.TransportError):
        assert raw(live, app, endless()).status_code == 413  # type: ignore[arg-type]
    assert live.get("/v1/health").json() == {"status": "ok"}


def test_a_thousand_items_of_the_largest_plaintext_do_not_fit_and_say_so(live: Live, app: str) -> None:
    item = {"plaintext": b64(bytes(KIB64))}
    full = live.post(AES + "encrypt/batch", app, {"items": [item] * 95})
    assert code(full) == "ok"
    assert all("ciphertext" in r for r in full.json()["results"])
    assert code(live.post(AES + "encrypt/batch", app, {"items": [item] * 96})) == "too_large"


@pytest.mark.parametrize("items", [[], None, {}, "x", [1], [None], [[]], [{}], [{"plaintext": ""}, {"plaintxt": ""}]], ids=str)
def test_a_batch_of_the_wrong_form_is_refused_whole(live: Live, app: str, items: Any) -> None:
    assert code(live.post(AES + "encrypt/batch", app, {"items": items})) == "malformed"
