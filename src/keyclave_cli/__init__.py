"""Keyclave's command line. It talks to a server through `keyclave_client`, checks its record with `keyclave_verify`,
and imports nothing of the server: what the server's own programs do (`init`, `serve`) they do in a process of their
own.
"""
