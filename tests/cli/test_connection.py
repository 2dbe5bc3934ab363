"""Which server, and as whom: what counts more, and that no credential goes to a server it is not for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keyclave_cli import profiles
from keyclave_cli.problems import Stop
from keyclave_cli.session import Session
from tests.cli.transcript import Prompt

A, B = "https://a.example:8443", "https://b.example:8443"


@pytest.fixture
def desk(prompt: Prompt) -> Prompt:
    """Profiles a and b, a in use, and a token file."""
    profiles.write_profile("a", None, A, "a.pem", "token-a", replace=False)
    profiles.write_profile("b", None, B, "b.pem", "token-b", replace=False)
    profiles.use_profile(profiles.find_profile("a", None))
    (prompt.folder / "token").write_text("token-file\n")
    (prompt.folder / "token").chmod(0o600)
    return prompt


@pytest.mark.parametrize(
    ("options", "environment", "url", "token"),
    [
        ({}, {}, A, "token-a"),
        ({"profile": "b"}, {}, B, "token-b"),
        ({}, {"KEYCLAVE_PROFILE": "b"}, B, "token-b"),
        ({"url": A + "/"}, {}, A + "/", "token-a"),
        ({"url": B}, {}, B, None),
        ({"url": B, "token_file": "token"}, {}, B, "token-file"),
        ({"token_file": "token"}, {}, A, "token-file"),
        ({}, {"KEYCLAVE_URL": B}, B, None),
        ({}, {"KEYCLAVE_URL": B, "KEYCLAVE_TOKEN": "token-env"}, B, "token-env"),
        ({}, {"KEYCLAVE_TOKEN_FILE": "token"}, A, "token-file"),
        ({"profile": "b"}, {"KEYCLAVE_URL": A, "KEYCLAVE_TOKEN": "token-env"}, B, "token-b"),
        ({"url": A}, {"KEYCLAVE_URL": B, "KEYCLAVE_TOKEN": "token-env"}, A, "token-a"),
    ],
)
def test_what_counts_more(
    desk: Prompt,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, str],
    environment: dict[str, str],
    url: str,
    token: str | None,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    connection = Session(**options).connection()  # type: ignore[arg-type]
    assert (connection.url, connection.token) == (url, token)
    if token in ("token-a", "token-b"):
        assert connection.ca_file is not None
        assert connection.ca_file.endswith(f"{token[-1]}.pem")


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"token": "x"}', '{"url": 3}', '{"url": "https://a", "password": "x"}'],
    ids=["not json", "no object", "no server", "no text", "unknown field"],
)
def test_what_is_no_profile_is_refused(prompt: Prompt, text: str) -> None:
    path = prompt.folder / "odd.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(Stop):
        profiles.read_profile(path)


def test_paths_in_a_profile_are_relative_to_it(prompt: Prompt) -> None:
    path = prompt.folder / "house" / "p.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"url": A, "ca_file": "ca.pem", "token_file": "t"}))
    read = profiles.read_profile(path)
    assert (read.ca_file, read.token_file) == (str(path.parent / "ca.pem"), str(path.parent / "t"))


def test_a_profile_does_not_print_its_token(desk: Prompt) -> None:
    assert "token-a" not in repr(profiles.find_profile("a", None))


def test_the_only_profile_of_a_home_is_used(desk: Prompt, monkeypatch: pytest.MonkeyPatch) -> None:
    home = str(desk.folder / "home")
    profiles.write_profile("custodian", home, B, None, "token-home", replace=False)
    monkeypatch.setenv("KEYCLAVE_HOME", home)
    assert Session().connection().token == "token-home"
    profiles.write_profile("operator", home, B, None, "token-other", replace=False)
    with pytest.raises(Stop, match="no server is named"):
        Session().connection()


def test_a_broken_profile_in_use_does_not_stop_who_names_the_server(desk: Prompt) -> None:
    profiles.find_profile("a", None).path.unlink()
    assert Session(url=B, token_file="token").connection().token == "token-file"
    with pytest.raises(Stop, match="is gone"):
        Session().connection()


def test_a_profile_appears_whole(desk: Prompt) -> None:
    folder = profiles.configuration() / "profiles"
    with pytest.raises(FileExistsError):
        profiles.write_profile("a", None, B, None, "other", replace=False)
    assert sorted(path.name for path in folder.iterdir()) == ["a.json", "b.json"]
    assert profiles.find_profile("a", None).token == "token-a"
    assert Path(profiles.find_profile("a", None).ca_file or "").is_absolute()


def test_a_local_home_says_where_its_server_listens(prompt: Prompt) -> None:
    home = prompt.folder / "home"
    home.mkdir()
    (home / "keyclave.toml").write_text('[listen]\nhost = "0.0.0.0"\nport = 1234\n')
    connection = Session(home=str(home)).connection()
    assert connection == ("https://127.0.0.1:1234", str(home / "tls/ca.pem"), None, None)
    (home / "keyclave.toml").write_text("[listen")
    with pytest.raises(Stop, match="cannot be read"):
        Session(home=str(home)).connection()
