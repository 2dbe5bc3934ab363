"""Drills of many nodes: a real database cluster and several servers on loopback, hurt on purpose (`make drill-ha`)."""
