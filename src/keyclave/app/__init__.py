"""Floor 12: the only place that chooses: configuration, wiring, the ceremony, the server process."""
