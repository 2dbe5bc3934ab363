"""Shares against their vectors, which were written from the specification by code that shares nothing with the server's."""

from __future__ import annotations

import pytest

from keyclave.core.errors import Malformed
from keyclave.crypto.pyca import PycaModule
from keyclave.crypto.shares import Share, combine
from tests.vectors.paragraphs import Paragraph, read

SAYS = {
    "typing": "typing error",
    "character": "does not occur in a share",
    "mark": "not a share",
    "version": "version",
    "kind": "not a share that Keyclave makes",
    "missing 1": "1 more share is needed",
    "missing 0": "no share",
    "twice": "twice",
    "sets": "different sets",
    "key": "do not give the key",
}
GOOD = [*read("shares/sets.txt"), *read("shares/spellings.txt")]
BAD = read("shares/refused.txt")


@pytest.fixture(scope="module")
def module() -> PycaModule:
    return PycaModule()


@pytest.mark.requirement("R16")
@pytest.mark.parametrize("vector", GOOD, ids=str)
def test_the_secret_comes_back(module: PycaModule, vector: Paragraph) -> None:
    assert vector["expect"] == "success"
    shares = [Share.from_text(text) for text in vector.all("share")]
    with combine(shares, vector["check"], module) as secret:
        assert bytes(secret.view()).hex() == vector["secret"]


@pytest.mark.requirement("R16")
@pytest.mark.parametrize("vector", BAD, ids=str)
def test_the_mistake_is_named(module: PycaModule, vector: Paragraph) -> None:
    kind = vector["expect"].removeprefix("failure: ")
    with pytest.raises(Malformed) as refused:
        combine([Share.from_text(text) for text in vector.all("share")], vector["check"], module)
    assert SAYS[kind] in refused.value.detail
    assert refused.value.hint


@pytest.mark.parametrize("vector", read("shares/sets.txt"), ids=str)
def test_a_share_is_written_as_specified(vector: Paragraph) -> None:
    for text in vector.all("share"):
        assert Share.from_text(text).to_text() == text


def test_every_kind_of_mistake_has_a_vector() -> None:
    assert {vector["expect"].removeprefix("failure: ") for vector in BAD} == set(SAYS)
