"""What a node is told that cannot use the database it was given: what is wrong, and what to do next."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from keyclave.core.errors import KeyclaveError
from keyclave.crypto.certificates import development_certificates
from keyclave.store import meta_rows, versions
from keyclave.store.pg import checks, faults
from keyclave.store.pg.address import Address, read_address, read_password
from keyclave.store.postgres import PostgresStore
from tests import postgres
from tests.postgres import PASSWORD, Database
from tests.store.units import new_postgres

pytestmark = pytest.mark.requirement("R6")


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    path.chmod(0o600)
    return path


def refusal(address: Address, **more: Any) -> str:
    """Return what opening it is refused with; the text ends with what to do."""
    with pytest.raises(KeyclaveError) as refused:
        PostgresStore(address, "0badcafe", **more).close()
    assert refused.value.hint
    assert PASSWORD not in refused.value.detail
    return refused.value.detail


def test_it_is_reached_over_tls_with_a_password_from_a_file(database: Database, password_file: Path) -> None:
    store = PostgresStore(read_address(database.tls_url(), password_file=password_file), "0badcafe")
    row = "SELECT s.ssl FROM pg_stat_ssl s WHERE s.pid = pg_backend_pid()"
    assert store.read(lambda conn: conn.exec_driver_sql(row).scalar_one()) is True
    store.close()


def test_a_wrong_password_is_said(database: Database, password_file: Path) -> None:
    password_file.write_text("wrong")
    assert "refuses the password" in refusal(read_address(database.tls_url(), password_file=password_file))


def test_without_a_password_it_says_how_to_give_one(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    assert "asks for a password" in refusal(read_address(database.tls_url()))


def test_a_passfile_serves_as_well(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "pgpass"
    file.write_text(f"*:*:*:keyclave_app:{PASSWORD}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    PostgresStore(read_address(database.tls_url()), "0badcafe").close()


def test_a_certificate_of_another_authority_is_refused(database: Database, password_file: Path, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(development_certificates(("localhost",)).ca)
    url = database.tls_url().split("sslrootcert=")[0] + f"sslrootcert={tmp_path / 'other.pem'}"
    assert "not of the authority" in refusal(read_address(url, password_file=password_file))


def test_a_certificate_of_another_host_is_refused(database: Database, password_file: Path) -> None:
    assert "of another host" in refusal(read_address(database.tls_url(host="127.0.0.2"), password_file=password_file))


def test_an_authority_that_is_not_there_is_said(database: Database, password_file: Path) -> None:
    url = database.tls_url().split("sslrootcert=")[0] + "sslrootcert=/nowhere/ca.pem"
    assert "no certificate to prove" in refusal(read_address(url, password_file=password_file))


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca"])
def test_a_connection_that_does_not_prove_the_database_is_refused(mode: str) -> None:
    with pytest.raises(KeyclaveError, match="does not prove"):
        read_address(f"postgresql://u@db.example.org/d?sslmode={mode}", development=True)
    with pytest.raises(KeyclaveError, match="does not prove"):
        read_address(f"postgresql://u@localhost/d?sslmode={mode}")
    assert read_address(f"postgresql://u@localhost/d?sslmode={mode}", development=True).settings["sslmode"] == mode
    assert read_address("postgresql://u@db.example.org/d").settings["sslmode"] == "verify-full"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@db/d", "mysql://u@db/d", "postgresql://db/d", "postgresql://u@db", "postgresql:///d", "nonsense",
        "postgresql://u@db:99999/d", "postgresql://u@/d?host=a:x", "postgresql://u@db/d?options=-c%20fsync=off",
        "postgresql://u@db/d?passfile=/x", "postgresql://u@db/d?sslmode=verify-full&sslmode=disable", "postgresql://u@a,b/d",
    ],
)  # fmt: skip
def test_an_address_that_is_not_one_is_refused_without_repeating_a_password(url: str) -> None:
    with pytest.raises(KeyclaveError) as refused:
        read_address(url)
    assert refused.value.hint
    assert "secret" not in refused.value.detail + str(refused.value.hint)


def test_several_hosts_are_named_once_each() -> None:
    found = read_address("postgresql://u@/d?host=a:1&host=b:2&host=[::1]:3&host=c")
    assert (found.settings["host"], found.settings["port"]) == ("a,b,::1,c", "1,2,3,5432")
    assert found.settings["target_session_attrs"] == "read-write"


def test_a_password_file_is_for_its_owner_alone(password_file: Path) -> None:
    password_file.chmod(0o640)
    with pytest.raises(KeyclaveError, match="others may read"):
        read_password(password_file)
    password_file.chmod(0o600)
    password_file.write_text("two\nlines\n")
    with pytest.raises(KeyclaveError, match="not one line"):
        read_password(password_file)


OWNER, USER, GROUP, NAMED, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20  # tags of an access control list
NOBODY = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("more", "ours"),
    [
        ([(USER, 4, "me")], True),  # what systemd makes of LoadCredential=: root's file, and this one user
        ([(USER, 4, 0)], True),
        ([(USER, 4, 4242)], False),
        ([(NAMED, 4, 4242)], False),
        ([(USER, 4, "me"), (USER, 4, 4242)], False),
    ],
)
def test_a_password_file_may_name_its_reader_in_an_access_control_list(
    password_file: Path, monkeypatch: pytest.MonkeyPatch, more: list[tuple[int, int, Any]], ours: bool
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1234)
    rest = [(GROUP, 0, NOBODY), (MASK, 4, NOBODY), (OTHER, 0, NOBODY)]
    entries = [(OWNER, 6, NOBODY), *((tag, rights, 1234 if who == "me" else who) for tag, rights, who in more), *rest]
    raw = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in sorted(entries))
    try:
        os.setxattr(password_file, "system.posix_acl_access", raw)
    except OSError as fault:  # the file system of the tests has no such lists
        assert fault.errno == errno.ENOTSUP
        password_file.chmod(0o640)
        monkeypatch.setattr("os.getxattr", lambda path, name: raw)
    assert password_file.stat().st_mode & 0o070
    if ours:
        assert read_password(password_file) == PASSWORD
    else:
        with pytest.raises(KeyclaveError, match="others may read"):
            read_password(password_file)


@pytest.mark.parametrize("damage", [b"", b"\x02\x00\x00", b"\x03\x00\x00\x00", b"\x02\x00\x00\x00\x01"])
def test_a_list_that_cannot_be_read_lets_nobody_in(password_file: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes) -> None:
    password_file.chmod(0o440)
    monkeypatch.setattr("os.getxattr", lambda path, name: damage)
    with pytest.raises(KeyclaveError, match="others may read"):
        read_password(password_file)


def test_where_nobody_listens_or_nothing_is_known_it_says_so(database: Database, password_file: Path) -> None:
    file = database.server.folder / "ca.pem"
    nobody = read_address(f"postgresql://keyclave_app@localhost:1/x?sslrootcert={file}", password_file=password_file)
    assert "nobody listens" in refusal(nobody)
    absent = read_address(database.url().replace(database.name, "absent"))
    assert "no such database" in refusal(absent)
    stranger = read_address(database.url("stranger"))
    assert "no such user" in refusal(stranger)
    assert "no socket" in refusal(read_address("postgresql://u@/d?host=/nowhere"))
    unknown = read_address(f"postgresql://u@host.invalid/d?sslrootcert={file}", password_file=password_file)
    assert "is not known" in refusal(unknown)


def test_an_old_server_is_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LEAST_VERSION", 990_000)
    assert "oldest that is supported" in refusal(read_address(database.url()))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("default_transaction_read_only = on", "only a standby"),
        ("synchronous_commit = off", "synchronous_commit is off"),
        ("synchronous_commit = local", "synchronous_commit is local"),  # which waits for no standby: a failover loses it
    ],
)
def test_what_takes_no_writes_or_forgets_them_is_refused(database: Database, setting: str, said: str) -> None:
    with database.connect() as conn:
        conn.execute(f"ALTER DATABASE {database.name} SET {setting}")
    assert said in refusal(read_address(database.url()))


@pytest.mark.parametrize(
    "statement", ["DROP TRIGGER journal_no_gap ON journal", "ALTER TABLE approvals DISABLE TRIGGER approvals_end_once"]
)
def test_a_database_without_one_of_its_guards_is_refused_until_it_is_migrated(database: Database, statement: str) -> None:
    with database.connect() as conn:
        conn.execute(statement)
    assert f"without its guard {statement.split()[2 if statement.startswith('DROP') else 5]}" in refusal(
        read_address(database.url())
    )
    postgres.migrate(database.server, database.name)
    PostgresStore(read_address(database.url()), "0badcafe").close()


def test_a_database_without_a_schema_is_refused() -> None:
    with postgres.new_database(empty=True) as database:
        assert "has no schema" in refusal(read_address(database.url()))


@pytest.mark.parametrize(
    ("found", "least", "said"), [("0001", "0001", "too old"), ("9999", "9999", "too new"), ("9999", "", "too new")]
)
def test_a_schema_too_old_or_too_new_is_refused(database: Database, found: str, least: str, said: str) -> None:
    with database.connect() as conn:
        conn.execute("UPDATE alembic_version SET version_num = %s", (found,))
        conn.execute("DELETE FROM meta WHERE name = 'schema_min'")
        if least:
            conn.execute("INSERT INTO meta VALUES ('schema_min', %s)", (least.encode(),))
    assert said in refusal(read_address(database.url()))


def test_one_version_of_difference_is_served_where_both_sides_say_so(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    own = versions.revision()
    newer = f"{int(own) + 1:04}"
    with database.connect() as conn:  # a database that a newer program migrated, for which this one is new enough
        conn.execute("UPDATE alembic_version SET version_num = %s", (newer,))
        conn.execute("UPDATE meta SET value = %s WHERE name = 'schema_min'", (own.encode(),))
    PostgresStore(read_address(database.url()), "0badcafe").close()
    monkeypatch.setattr(versions, "revision", lambda: newer)  # the newer program on the database of the older one
    monkeypatch.setattr(versions, "COMPATIBLE", {newer: own})
    with database.connect() as conn:
        conn.execute("UPDATE alembic_version SET version_num = %s", (own,))
    PostgresStore(read_address(database.url()), "0badcafe").close()


def test_the_owner_is_no_user_for_a_server(database: Database) -> None:
    assert "which holds the record" in refusal(read_address(database.url(postgres.OWNER)))
    PostgresStore(read_address(database.url(postgres.OWNER)), "0badcafe", development=True).close()


@pytest.mark.parametrize(
    ("verb", "table"), [("INSERT", "journal"), ("UPDATE", "key_versions"), ("DELETE", "idempotency"), ("SELECT", "keys")]
)
def test_a_missing_right_is_named(database: Database, verb: str, table: str) -> None:
    with database.connect() as conn:
        conn.execute(f"REVOKE {verb} ON {table} FROM keyclave_app")
    assert f"no right to {verb} on {table}" in refusal(read_address(database.url()))


def test_a_member_of_the_servers_role_will_do(database: Database) -> None:
    with database.connect() as conn:
        conn.execute("DROP ROLE IF EXISTS keyclave_member")
        conn.execute("CREATE ROLE keyclave_member LOGIN IN ROLE keyclave_app")
    PostgresStore(read_address(database.url("keyclave_member")), "0badcafe").close()


def test_the_database_of_another_installation_is_refused(database: Database) -> None:
    with new_postgres(database) as store:
        store.write(lambda conn: meta_rows.write_meta(conn, versions.CLUSTER, b"theirs"))
    assert "belongs to installation theirs" in refusal(read_address(database.url()), cluster="ours")
    PostgresStore(read_address(database.url()), "0badcafe", cluster="theirs").close()


def test_a_storm_of_connections_is_said(database: Database) -> None:
    with database.connect() as conn:
        conn.execute(f"ALTER DATABASE {database.name} CONNECTION LIMIT 3")
    assert "no connection left" in refusal(read_address(database.url()))


# ---- poolers --------------------------------------------------------------------------------------------------------------
@pytest.fixture
def pooler(database: Database) -> Iterator[Any]:
    """Start PgBouncer before the database, in the mode that the test names."""
    started: list[subprocess.Popen[bytes]] = []
    folders: list[Path] = []

    def start(mode: str, size: int) -> Address:
        folder = Path(tempfile.mkdtemp(dir=database.server.folder.parent))
        folders.append(folder)
        folder.chmod(0o777)  # the pooler refuses to run as root, and its account makes its socket here
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n{database.name} = host={database.server.folder} port={database.server.port} user=keyclave_app\n"
            f"[pgbouncer]\npool_mode = {mode}\nunix_socket_dir = {folder}\nlisten_port = 6432\nauth_type = any\n"
            f"ignore_startup_parameters = options,extra_float_digits\ndefault_pool_size = {size}\nlogfile = {folder}/log\n"
        )
        (folder / "pgbouncer.ini").chmod(0o644)
        from tests.postgres_keeper import account

        command = ["/usr/sbin/pgbouncer", str(folder / "pgbouncer.ini")]
        started.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **account()))  # type: ignore[call-overload]
        postgres.until((folder / ".s.PGSQL.6432").exists, "the pooler did not start")
        return read_address(f"postgresql://keyclave_app@/{database.name}?host={folder}&port=6432")

    yield start
    for process in started:
        process.terminate()
        process.wait(30)
    for folder in folders:
        shutil.rmtree(folder)


@pytest.mark.parametrize("size", [1, 2, 20])
def test_a_pooler_that_shares_sessions_is_refused(pooler: Any, size: int) -> None:
    assert "pooler" in refusal(pooler("transaction", size))


def test_a_pooler_that_gives_each_its_session_will_do(pooler: Any) -> None:
    PostgresStore(pooler("session", 40), "0badcafe").close()


# ---- what is said ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("said", [part for part, _, _ in faults._SAYINGS])
def test_every_saying_ends_with_what_to_do(said: str) -> None:
    refused = faults.refused(psycopg.OperationalError(f"connection failed: {said}"), "postgresql://u@db/d")
    assert refused.hint
    assert refused.detail.startswith("postgresql://u@db/d: ")


def test_a_right_or_a_table_that_is_gone_is_told_as_that(database: Database) -> None:
    with new_postgres(database) as store:
        for statement, undo in (
            ("REVOKE INSERT ON meta FROM keyclave_app", "GRANT INSERT ON meta TO keyclave_app"),
            ("ALTER TABLE meta RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO meta"),
        ):
            with database.connect() as conn:
                conn.execute(statement)
                with pytest.raises(KeyclaveError, match="nothing was done") as refused:
                    store.write(lambda conn: meta_rows.write_meta(conn, "new", b"x"))
                conn.execute(undo)
            assert "keyclave migrate" in str(refused.value.hint)
            assert "does not answer" not in refused.value.detail
