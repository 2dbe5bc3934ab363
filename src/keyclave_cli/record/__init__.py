"""The server's record, held here: what was exported, what was trusted before, and the comparison of the two."""
