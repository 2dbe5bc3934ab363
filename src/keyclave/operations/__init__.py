"""Floor 8: one verb, one file; the only floor that changes anything.

Each verb keeps the same beats: ask policy, load, ask the state, do the crypto, keep, record. `desk` does what all of them
share; `table` lists them, and every protocol is printed from that list.
"""
