"""What a client cannot be made of is refused when it is made, with one of the errors that callers know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from keyclave_client import Client, errors
from tests.unit.client.contract_server import Said, serve

ADDRESS = "https://127.0.0.1:8443"


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:x", "https://127.0.0.1:99999", "https://127.0.0.1:0", "https://[::1", "https://[nowhere]", "https://a..b",
        "https://a b", "https://host\n", "https://host:1\r\nx: y", "https://" + "a" * 64, "https://", "https:host", "host:8443", "",
    ],
)  # fmt: skip
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(errors.Malformed, match="address"):
        Client(url, "kct_x")


@pytest.mark.parametrize("token", ["", "kct_x\n", "kct_\u00e9", "two words", "kct_x\r\nhost: y", "kct_\0"])
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(errors.Malformed, match="token") as refused:
        Client(ADDRESS, token)
    assert not token.strip() or token.strip() not in str(refused.value)
    with Client(ADDRESS, lambda: token) as client, pytest.raises(errors.Malformed, match="token"):
        client.whoami()


@pytest.mark.parametrize("content", [None, b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_holds_no_authority(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    for path in (str(file), str(tmp_path), "a\0b"):
        with pytest.raises(errors.Malformed, match="authority"):
            Client(ADDRESS, "kct_x", ca_file=path)


@pytest.mark.parametrize("content", [None, b"", b"garbage"])
def test_what_is_no_client_certificate(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "mine.pem"
    if content is not None:
        file.write_bytes(content)
    for path in (str(file), str(tmp_path), "a\0b"):
        with pytest.raises(errors.Malformed, match="certificate"), Client(ADDRESS, certificate=(path, path)) as client:
            client.whoami()


def test_a_key_under_a_passphrase_is_an_error_and_no_question_to_the_terminal(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "me")])
    day = datetime(2026, 11, 27, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, day, day + timedelta(1)).sign(key, SHA256())
    files = tmp_path / "mine.pem", tmp_path / "mine.key"
    files[0].write_bytes(made.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    certificate = str(files[0]), str(files[1])
    with pytest.raises(errors.Malformed, match="passphrase"), Client(ADDRESS, certificate=certificate) as client:
        client.whoami()


@pytest.mark.parametrize("url", [ADDRESS, "https://[::1]:8443", "https://kms.hospital.example", "https://k\u00f6ln.example/kms/"])
def test_what_is_an_address(url: str) -> None:
    Client(url, "kct_x").close()


def test_a_function_gives_the_token() -> None:
    with serve(lambda asked: Said(200, {"status": "ok"})) as server, Client(server.url, lambda: "kct_x") as client:
        assert client.health() == "ok"
