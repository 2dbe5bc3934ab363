"""Floor 3: roots of trust. A root protects the tenants' keys and is called outside database transactions."""
