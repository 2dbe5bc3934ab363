"""Keyclave: a key management system for healthcare. This package is the server; DESIGN and docs/ tell how it is cut."""

__version__ = "0.1.0"
