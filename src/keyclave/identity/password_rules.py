"""What a password must be (SP 800-63B-4 section 3.1.1.2): long enough, not a known bad one. No rules of composition, no expiry.

It is never enough alone, however long: it is only ever asked for together with a one-time code, so eight characters are the
least.
"""

from __future__ import annotations

import functools
import unicodedata
from importlib.resources import files

from keyclave.core.errors import Malformed

LEAST = 8
LONGEST = 256


def check_new_password(password: str, principal: str) -> None:
    """Refuse a password that is too short, or one that guessers try first."""
    plain = unicodedata.normalize("NFKC", password)
    if len(plain) < LEAST:
        raise Malformed(f"a password has at least {LEAST} characters", "three or four words are easy to remember")
    folded = plain.casefold()
    simple = folded.strip("0123456789!?.,-_*#$ ")
    own = principal.casefold()
    if folded in blocked() or simple in blocked() or len(set(folded)) < 4 or own in folded or folded in own:
        raise Malformed("this password is one of those tried first", "choose several words that only you would put together")


@functools.lru_cache(maxsize=1)
def blocked() -> frozenset[str]:
    """Return the passwords that nobody may choose, case folded."""
    text = files("keyclave.identity").joinpath("blocked_passwords.txt").read_text(encoding="utf-8")
    return frozenset(line.strip().casefold() for line in text.splitlines() if line.strip() and not line.startswith("#"))
