"""Local envelope encryption (spec/local-envelope.md): the data stays here, only data keys are wrapped by the server."""
