"""Floor 4: who is asking. Pure: credentials come from the store, tokens are hashed by the crypto room."""
