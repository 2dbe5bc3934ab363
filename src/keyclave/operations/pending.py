"""What is about to change: nobody uses it until the change is decided."""

from __future__ import annotations

from collections.abc import Iterable


class Pending(dict[str, int]):
    """How many changes of each name wait for their commit. A dictionary, for it is asked at every request."""

    def add(self, names: Iterable[str]) -> None:
        """A change of these was handed to the store."""
        for name in names:
            self[name] = self.get(name, 0) + 1

    def any(self, names: Iterable[str]) -> bool:
        """Tell whether a change of one of these waits."""
        return bool(self) and any(name in self for name in names)

    def remove(self, names: Iterable[str]) -> None:
        """It is decided, or was taken back."""
        for name in names:
            left = self[name] - 1
            if left:
                self[name] = left
            else:
                del self[name]
