"""Floor 2: THE cryptographic module boundary. Nothing else in the server imports a crypto library; nothing here does I/O."""
