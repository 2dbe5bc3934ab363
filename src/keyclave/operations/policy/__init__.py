"""The room of policy: what is in force, what a change would mean, who can do what and why, and the change itself."""
