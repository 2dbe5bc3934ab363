"""Tests in drawers: unit, vectors, property, failure, store, protocols, cli, client, verify, and the rules of the house."""
