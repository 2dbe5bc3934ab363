"""The offline verifier: checks a Keyclave log, a receipt or a checkpoint with the log's public keys and nothing else.

It imports nothing of the server, makes no connection and trusts nothing but the verifier keys it is given. Whoever audits a log
should be able to read all of it first; begin with `log.py`. Formats: spec/checkpoint.md and spec/log-directory.md.
"""

__version__ = "0.1.0"
