"""Drills: the server is hurt on purpose, under load, and what it had answered is counted afterwards (`make drill`)."""
