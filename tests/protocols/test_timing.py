"""What a stopwatch could tell is decided by the work done: forbidden and unknown must cost the same, in this process and counted."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest

from keyclave.store.access import credentials
from tests.protocols.inside import Inside, inside

ENCRYPT = "/v1/keys/{key}/encrypt"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with inside(tmp_path_factory.mktemp("counted")) as server:
        yield server


@pytest.fixture(scope="module")
def app(server: Inside) -> str:
    """Return a token whose scope reaches the key `reached` and not the key `hidden`."""
    for name in (b"reached", b"hidden"):
        assert server.ask("POST", "/v1/keys", server.tokens["custodian"], b'{"name":"%b","owner":"o"}' % name)[0] == 201
    return server.issue("app", "application", '{"operations":["encrypt"],"keys":["reached"]}')[1]


def cost(server: Inside, token: str, ref: str) -> tuple[int, int]:
    """Return status and number of reads of an encryption."""
    before = server.reads
    status, _ = server.ask("POST", ENCRYPT, token, b'{"plaintext":""}', ref=ref)
    return status, server.reads - before


@pytest.mark.requirement("R10", "R29")
def test_a_forbidden_and_an_unknown_key_cost_the_same_reads_the_first_time_and_ever_after(server: Inside, app: str) -> None:
    assert cost(server, app, "reached")[0] == 200
    assert cost(server, app, "reached") == (
        200,
        0,
    )  # credential and key are in memory: from here on reads are about what is asked
    assert cost(server, app, "hidden") == cost(server, app, "never-was") == (404, 1)
    for _ in range(3):
        assert cost(server, app, "hidden") == cost(server, app, "never-was") == (404, 0)


@pytest.mark.requirement("R10", "R29")
def test_a_name_that_was_unknown_is_found_once_it_exists_and_not_before(server: Inside, app: str) -> None:
    custodian, body = server.tokens["custodian"], b'{"name":"later","owner":"o"}'

    def status() -> int:
        return server.ask("GET", "/v1/keys/{key}", custodian, ref="later")[0]

    assert [status(), status()] == [404, 404]
    assert server.ask("POST", "/v1/keys", custodian, body, dry_run=True)[0] == 200
    assert status() == 404
    assert server.ask("POST", "/v1/keys", custodian, body)[0] == 201
    assert status() == 200


@pytest.mark.requirement("R33")
def test_a_token_is_looked_up_by_its_digest_so_no_comparison_runs_along_it(
    server: Inside, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.ask("GET", "/v1/whoami", app)[0] == 200
    looked_up: list[bytes] = []
    read_credential = credentials.read_credential

    def noting(conn: Any, digest: bytes) -> Any:
        looked_up.append(digest)
        return read_credential(conn, digest)

    monkeypatch.setattr(credentials, "read_credential", noting)
    near, far = app[:-1] + ("A" if app[-1] != "A" else "B"), "kct_" + "x" * 43
    before = server.reads
    assert [server.ask("GET", "/v1/whoami", token)[0] for token in (near, far, near, far)] == [401] * 4
    assert server.reads - before == 4
    assert looked_up == [sha256(token.encode()).digest() for token in (near, far, near, far)]
