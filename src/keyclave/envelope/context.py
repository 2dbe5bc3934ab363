"""Encryption contexts: flat string maps that are authenticated with a ciphertext and never stored in it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from keyclave.core import limits
from keyclave.core.canonical import canonical_map
from keyclave.core.errors import Malformed, TooLarge

_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"
)  # control characters would let a log line or a terminal be forged


def encode_context(context: Mapping[str, str]) -> bytes:
    """Return the canonical bytes of a context, after checking its form. The empty context is the empty string."""
    if not context:
        return b""
    if len(context) > limits.CONTEXT_ENTRIES:
        raise TooLarge(f"the context has {len(context)} entries", f"at most {limits.CONTEXT_ENTRIES}")
    for name, value in context.items():
        # printable ASCII without space: the names real clients use
        if not (0 < len(name) <= limits.CONTEXT_NAME and name.isascii() and name.isprintable() and " " not in name):
            raise Malformed(
                f"a context name is 1 to {limits.CONTEXT_NAME} printable ASCII characters without spaces",
                "rename it, for example patient or purpose",
            )
        if len(value) > limits.CONTEXT_VALUE:
            raise TooLarge(f"the context value of {name!r} is too long", f"at most {limits.CONTEXT_VALUE} characters")
        # nothing that Python calls printable is among them, and it says so faster
        if not value.isprintable() and _CONTROL.search(value):
            raise Malformed(f"the context value of {name!r} holds a control character", "use printable text")
    encoded = canonical_map(context)
    if len(encoded) > limits.CONTEXT_BYTES:
        raise TooLarge("the context is too large", f"at most {limits.CONTEXT_BYTES} bytes once encoded")
    return encoded
