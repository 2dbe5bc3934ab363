"""Floor 5: may this caller do this. Pure logic over identities and the operation's name."""
