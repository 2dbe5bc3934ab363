"""Many nodes on one store: leases, the barrier that makes a revocation true everywhere, the log's one order."""
