"""Many nodes on one store: the logic on a made-up clock, the rows, and whole servers."""
