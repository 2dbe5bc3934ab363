"""What `keyclave doctor` looks at: one file for what the connection shows, one for the server, its record and this machine."""
