"""The doors beside the table of operations ask no less than it: what serves the log's own files is held to `log-read`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live import Live, launch

pytestmark = pytest.mark.requirement("R10", "R15", "R30")
PATHS = (
    "/v1/audit/events", "/v1/log/tile/entries/000", "/v1/log/tile/0/000", "/v1/log/checkpoints",
    "/v1/audit/consistency?from=1&to=1", "/v1/audit/receipts/{event}",
)  # fmt: skip


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server whose people prove themselves with passkeys: of bearer tokens it believes that they can enrol one, no more."""
    server = launch(tmp_path_factory.mktemp("strict"), "--development", "--people", "passkeys", unseal=False)
    yield server
    server.stop()


@pytest.mark.parametrize("path", PATHS)
def test_an_auditors_token_that_is_too_weak_reads_nothing_of_the_log(strict: Live, path: str) -> None:
    event = strict.post("/v1/keys", "custodian", {"name": "x", "owner": "o"}).json()["event"]
    answer = strict.get(path.replace("{event}", event), "auditor")
    assert (answer.status_code, answer.json()["code"]) == (403, "assurance_required")


def test_the_receipt_of_ones_own_attempt_needs_no_more_than_the_attempt(strict: Live) -> None:
    event = strict.get("/v1/audit/events", "auditor").json()["event"]
    assert strict.get(f"/v1/audit/receipts/{event}", "auditor").status_code == 200
    assert strict.get(f"/v1/audit/receipts/{event}", "custodian").json()["code"] == "unknown"
