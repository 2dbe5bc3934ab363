"""Floor 5: the form of a ciphertext (spec/envelope.md) and of an encryption context. Pure: bytes in, bytes out."""
