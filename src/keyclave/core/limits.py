"""Every size limit in one place. A request over a limit is refused with its number; nothing is cut off silently."""

from __future__ import annotations

BODY = 8 * 1024 * 1024  # bytes of a request body
EARLY = 64 * 1024  # bytes of a request body that are taken before it is known who sends it
PIECES = 16_384  # in which a body may come
HEAD = 32 * 1024  # bytes of request line and headers
PIPELINE = 1024  # requests of one connection that wait for the answers to those before them
PLAINTEXT = 64 * 1024  # bytes of one plaintext; larger data takes a data key
BATCH = 1000  # items of a batch
CONTEXT_ENTRIES = 32
CONTEXT_NAME = 128  # characters
CONTEXT_VALUE = 1024  # characters
CONTEXT_BYTES = 8192  # canonical bytes of a whole context
MESSAGE = 64 * 1024  # bytes to sign or MAC; larger messages are digested by the caller
RANDOM = 1024  # bytes of one random answer
NAME = 128
REASON = 500
TAGS = 50
PAGE = 1000  # rows of a page, at most
ENTRY = 65_535  # bytes of a log entry (C2SP tlog-tiles: uint16 length)

# Text without control characters (C0, DEL, C1) or line separators: what would forge a line in a log or speak to a terminal.
# In Python `$` alone lets a last line break through.
PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$(?!\n)"
