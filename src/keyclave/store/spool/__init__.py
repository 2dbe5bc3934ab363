"""Spools: what a node decrypted while the database was away, on its own disk until the database has it (spec/spool.md)."""
