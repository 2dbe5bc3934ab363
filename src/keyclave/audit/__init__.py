"""Floor 5: the record. Merkle tree, tiles, checkpoints and receipts in the C2SP formats. Pure: bytes in, bytes out."""
