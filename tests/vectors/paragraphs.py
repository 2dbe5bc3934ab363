"""Reads vector files: paragraphs of `name: value` lines; `#` begins a comment, a name may come several times."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[2] / "vectors"


class Paragraph:
    """One vector."""

    def __init__(self, text: str) -> None:
        self._lines = [line.partition(":") for line in text.splitlines() if not line.startswith("#")]

    def all(self, name: str) -> list[str]:
        """Return every value of `name`, in order."""
        return [value.removeprefix(" ") for given, _, value in self._lines if given == name]

    def __getitem__(self, name: str) -> str:
        """Return the one value of `name`."""
        (value,) = self.all(name)
        return value

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))

    @property
    def good(self) -> bool:
        """Return whether the vector is one to accept."""
        return {"success": True, "failure": False}[self["expect"]]

    def __str__(self) -> str:
        return next((self[name] for name in ("flag", "path", "vkey") if name in self), "vector")[:60]


def read(path: str) -> list[Paragraph]:
    """Return the vectors of a file under vectors/."""
    found = [Paragraph(text) for text in (FOLDER / path).read_text().split("\n\n")]
    return [paragraph for paragraph in found if "expect" in paragraph]
