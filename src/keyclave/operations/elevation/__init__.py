"""Roles for a while: eligibilities, elevation, break-glass with its alarms and reviews. spec/elevation.md is the law."""
