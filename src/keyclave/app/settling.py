"""What a server needs soon but not for its first answer: libraries that few requests ask for.

Their modules are imported inside the functions that call them. Importing them all takes a fifth of a second; that would be added
to each start, or to one request for which everybody waits. So they are imported on a worker thread once the server serves,
unless nobody has enrolled yet: then the first who does waits for them.
"""

from __future__ import annotations

import importlib
import logging

logger = logging.getLogger("keyclave")

LATER = ("webauthn", "jinja2", "jinja2.compiler", "segno")


def settle() -> None:
    """Import what was left out. Whoever needs a module meanwhile waits for it, no longer than importing it takes."""
    for name in LATER:
        try:
            importlib.import_module(name)
        except ImportError as fault:  # whoever calls it is told the same, each time
            logger.error("%s cannot be imported: %s", name, fault)
