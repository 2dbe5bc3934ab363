"""Floor 11: protocols translate and decide nothing. They know operations, and not each other."""
