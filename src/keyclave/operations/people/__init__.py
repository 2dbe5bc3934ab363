"""People: invitations, enrolment, logging in, sessions, and who may no longer come in. Every verb is one file."""
