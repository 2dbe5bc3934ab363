"""Default cryptoperiods by purpose, with their sources, and the bounds an owner may choose within.

SP 800-57 part 1 rev 5, section 5.3.6 and table 1 gives orders of magnitude; the defaults here are the shorter end that a
healthcare record's life permits. Records outlive them: rewrap in time, or choose a longer period with a recorded reason.
"""

from __future__ import annotations

from keyclave.core.errors import Malformed
from keyclave.keys.model import LONGEST_DAYS, Cryptoperiod

_YEAR = 365

DEFAULTS: dict[str, Cryptoperiod] = {
    "encrypt": Cryptoperiod(_YEAR, 7 * _YEAR),  # key-wrapping key: 12-24 months to protect; HIPAA keeps records 6 years
    "mac": Cryptoperiod(2 * _YEAR, 5 * _YEAR),  # table 1, row 3: at most two years, plus three
    "sign": Cryptoperiod(2 * _YEAR, 7 * _YEAR),  # row 1: one to three years; verification goes on
    "decrypt": Cryptoperiod(2 * _YEAR, 7 * _YEAR),  # row 10
    "agree": Cryptoperiod(_YEAR, 2 * _YEAR),  # row 13
    "encapsulate": Cryptoperiod(2 * _YEAR, 7 * _YEAR),  # row 10, key transport
}


def checked(period: Cryptoperiod) -> Cryptoperiod:
    """Return the period if it is one: at least a day, and processing lasts at least as long as protecting."""
    if not 1 <= period.protect_days <= LONGEST_DAYS or not period.protect_days <= period.process_days <= LONGEST_DAYS:
        raise Malformed(
            "cryptoperiod does not hold together",
            f"protect_days is 1 to {LONGEST_DAYS} and process_days is between protect_days and {LONGEST_DAYS}",
        )
    return period
