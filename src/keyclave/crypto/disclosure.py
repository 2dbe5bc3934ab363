"""The one way out: where a secret leaves locked memory because its rightful caller asked for it.

What passes here becomes an immutable Python string that cannot be wiped (docs/limitations.md), so every use of this module is
an operation that a policy permitted and an event records. Search for `disclose` to find them all.
"""

from __future__ import annotations

import pybase64

from keyclave.crypto.arena import Slot


def disclose(secret: Slot) -> str:
    """Return the secret's bytes in base64."""
    return pybase64.b64encode_as_string(secret.view())


def disclose_part(secret: Slot, place: slice) -> bytes:
    """Return some of the secret's bytes in base64, as the ASCII that goes out."""
    return pybase64.b64encode(secret.view()[place])


def lend(secret: Slot) -> memoryview:
    """Return the bytes in place, to be wrapped by the module under another key. The view must not outlive the slot."""
    return secret.view()
