"""Nodes are replaced one by one by those of the next version: both serve one database, and what one takes away is gone at the other.

The older side is this program itself, unchanged. The newer one is made from it as a release would make it: a copy with another version's
name, one migration more, the column that it adds used by its own statements, and the word that programs of both may serve it. Its own
`keyclave migrate` changes the database under the node that serves.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyclave import __version__
from keyclave.store.versions import COMPATIBLE, revision
from tests import live as servers
from tests.cluster.several import Several, is_ready, several
from tests.live import Live, start, wait_until_up
from tests.postgres import OWNER, Database, new_database
from tests.waiting import until

SOURCE = Path(__file__).parents[2] / "src"
NEXT = f"{int(revision()) + 1:04}"
NEXT_VERSION = "99.0.0"
MIGRATION = f'''"""what the next version adds"""

import sqlalchemy as sa
from alembic import op

revision = "{NEXT}"
down_revision = "{revision()}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("keys", sa.Column("ward", sa.String(length=64), nullable=False, server_default="any"))
'''
OTHERWISE = {
    "keyclave/__init__.py": (f'"{__version__}"', f'"{NEXT_VERSION}"'),
    "keyclave/store/versions.py": (
        f"COMPATIBLE: dict[str, str] = {str(COMPATIBLE).replace(chr(39), chr(34))}",
        f'COMPATIBLE = {{"{NEXT}": "{revision()}"}}',
    ),
    "keyclave/store/schema.py": (
        '    Column("stale",',
        '    Column("ward", String(64), nullable=False, server_default="any"),\n    Column("stale",',
    ),
}
USE = {"plaintext": "aGVhcnQgcmF0ZSA2MQ=="}


@pytest.fixture(scope="module")
def following(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Make the next version's program; return the environment to run it in."""
    program = tmp_path_factory.mktemp("next") / "src"
    shutil.copytree(SOURCE, program)  # with what is compiled already
    (program / f"keyclave/store/migrations/versions/{NEXT}_ward.py").write_text(MIGRATION)
    for name, (old, new) in OTHERWISE.items():
        text = (program / name).read_text()
        assert text.count(old) == 1, name
        (program / name).write_text(text.replace(old, new))
    return {**servers.ENVIRONMENT, "PYTHONPATH": str(program)}


@pytest.fixture(scope="module")
def shared() -> Iterator[Database]:
    with new_database() as made:
        yield made


@pytest.fixture(scope="module")
def pair(shared: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Several]:
    with several(tmp_path_factory.mktemp("rolling"), shared, 2) as made:
        yield made


def replace(node: Live, environment: dict[str, str]) -> None:
    """End a node and start it again, as the program of that environment."""
    node.process.send_signal(signal.SIGTERM)
    node.process.wait(30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servers, "ENVIRONMENT", environment)
        node.process = start(node.home, node.port)
    wait_until_up(node.url, node.ca_file, node.process)
    node.unseal()
    until(lambda: is_ready(node), "the node is not ready")


def versions(pair: Several) -> set[tuple[str, str]]:
    return {(row["version"], row["schema"]) for row in pair.rows() if row["status"] == "serving"}


def both_serve_as_one(pair: Several) -> None:
    """What is made at each is used at the other, and what is taken away at each is gone at the other once that is answered."""
    for number, (here, there) in enumerate((pair.nodes, pair.nodes[::-1])):
        key = f"made-at-{number}"
        here.create_key(key)
        token = here.token(["encrypt"], [key])
        use = f"/v1/keys/{key}/encrypt"
        assert [node.post(use, token, USE).status_code for node in (here, there)] == [200, 200]
        assert here.post(f"/v1/keys/{key}/suspend", "custodian", {"reason": "looked into"}).status_code == 200
        assert there.post(use, token, USE).status_code == 409
        assert there.post(f"/v1/keys/{key}/resume", "operator", {"reason": "found"}).status_code == 200
        assert here.post(use, token, USE).status_code == 200
        credential = there.get("/v1/whoami", token).json()["credential"]
        assert there.post(f"/v1/credentials/{credential}/revoke", "operator", {"reason": "lost"}).status_code == 200
        assert [node.post(use, token, USE).status_code for node in (here, there)] == [401, 401]


@pytest.mark.requirement("R5", "R6", "P4")
def test_nodes_of_this_version_and_the_next_serve_one_database_side_by_side(
    pair: Several, shared: Database, following: dict[str, str]
) -> None:
    old, new = pair.nodes
    command = [sys.executable, "-m", "keyclave.app", "migrate", "--home", str(old.home), "--store", shared.url(OWNER)]
    old.create_key("kept")
    token, use = old.token(["encrypt"], ["kept"]), "/v1/keys/kept/encrypt"
    done = subprocess.run(command, env=following, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    with shared.connect() as conn:
        assert conn.execute("SELECT version_num FROM alembic_version").fetchone() == (NEXT,)
    old.create_key("later")  # the schema changed under two nodes that were not restarted
    assert [node.post(use, token, USE).status_code for node in pair.nodes] == [200, 200]
    replace(new, following)
    until(lambda: versions(pair) == {(__version__, revision()), (NEXT_VERSION, NEXT)}, "the nodes are not of two versions")
    both_serve_as_one(pair)
    replace(old, servers.ENVIRONMENT)  # one of the old version that is restarted comes up again, too
    assert [node.post(use, token, USE).status_code for node in pair.nodes] == [200, 200]
