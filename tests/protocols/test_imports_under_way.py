"""Imports that were begun: rehearsed, left alone, and apart for each tenant."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyclave.core.errors import LimitReached, Malformed
from keyclave.operations import imports
from keyclave.store import tenant_rows
from tests.live import Live
from tests.protocols.answered import code
from tests.protocols.every import wrapped_for
from tests.protocols.inside import inside


@pytest.mark.requirement("R12")
def test_a_rehearsed_import_leaves_its_token_for_the_import(live: Live) -> None:
    parameters = live.post("/v1/import/parameters", "custodian").json()
    body = {"name": "rehearsed", "owner": "o", "token": parameters["token"]}
    body |= wrapped_for(parameters["wrapping_key"], bytes(32))
    for _ in range(2):
        assert live.post("/v1/keys/import?dry_run=true", "custodian", body).status_code == 200
    assert code(live.get("/v1/keys/rehearsed", "custodian")) == "unknown"
    assert live.post("/v1/keys/import", "custodian", body).status_code == 201
    assert code(live.post("/v1/keys/import", "custodian", {**body, "name": "again"})) == "malformed"


@pytest.mark.requirement("R12")
def test_imports_that_were_begun_and_left_end_by_themselves_and_keep_no_other_tenant_out(tmp_path: Path) -> None:
    with inside(tmp_path) as server:
        desk, one, two = server.desk, server.store.read(tenant_rows.home_tenant), "ten_two"
        for duty in ("operational", "archive", "context"):
            desk.keyring.adopt(two, duty, desk.module.random_slot(32))
        with desk.module.random_slot(32) as slot:

            def offer(tenant: str, token: str, now: int, expires: int) -> None:
                server.store.write(imports.offer(desk, tenant, token, slot, now, expires))

            for i in range(16):
                offer(one, f"imp_{i}", 0, 1000)
            with pytest.raises(LimitReached):
                offer(one, "imp_more", 999, 1000)
            offer(two, "imp_other", 999, 1000)
            with imports.open_private(desk, imports.find(desk, two, "imp_other", 999)) as opened:
                assert opened.same_as(slot)
            with pytest.raises(Malformed):
                imports.find(desk, one, "imp_other", 999)
            offer(one, "imp_more", 1000, 2000)  # an hour later the first sixteen are over
            for token in ("imp_0", "imp_other"):
                with pytest.raises(Malformed):
                    imports.find(desk, one, token, 1000)
