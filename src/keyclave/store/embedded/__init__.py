"""The parts of the embedded store: a SQLite file of one machine. `keyclave.store.sqlite` puts them together."""
