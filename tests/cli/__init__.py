"""The command line: readable transcripts of sessions, and tests of what a transcript cannot show."""
