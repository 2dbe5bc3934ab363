"""Which operation a path names. Printed from the operation table; the one place that splits a path."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from keyclave.operations.operation import Operation

_REMEMBERED = 4096
Route = tuple[Operation, str, bytes]  # operation, the key or credential named, the query


class Routes:
    """Finds POST operations by path, for the fast lane; what was found is remembered."""

    def __init__(self, operations: list[Operation]) -> None:
        self._exact: dict[bytes, Operation] = {}
        self._named: dict[tuple[bytes, bytes], Operation] = {}
        self._found: dict[bytes, Route] = {}
        for op in operations:
            if op.method != "POST":
                continue
            before, brace, after = op.path.partition("{")
            if brace:
                self._named[before.encode(), after.partition("}")[2].encode()] = op
            else:
                self._exact[op.path.encode()] = op
        self._prefixes = {prefix for prefix, _ in self._named}

    def find(self, url: bytes) -> Route | None:
        """Return the route of a POST to `url`, or None."""
        route = self._found.get(url)
        if route is None:
            route = self._match(url)
            if route is not None:
                if len(self._found) >= _REMEMBERED:
                    self._found.clear()
                self._found[url] = route
        return route

    def _match(self, url: bytes) -> Route | None:
        path, _, query = url.partition(b"?")
        op = self._exact.get(path)
        if op is not None:
            return op, "", query
        for prefix in self._prefixes:
            if path.startswith(prefix):
                name, slash, verb = path[len(prefix) :].partition(b"/")
                op = self._named.get((prefix, slash + verb))
                if op is not None and name:
                    return op, _text(name), query
        return None


def _text(name: bytes) -> str:
    """Decode a name in a path; bytes that are not UTF-8 name nothing."""
    return unquote_to_bytes(name).decode("utf-8", "replace")
