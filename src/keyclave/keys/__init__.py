"""Floor 3: what a key is and how it lives. Pure: no I/O, no cryptography."""
