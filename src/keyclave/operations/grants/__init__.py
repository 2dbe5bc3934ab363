"""Grants: giving a right to use keys, giving part of it on, handing it back, taking it away. spec/grants.md is the law."""
