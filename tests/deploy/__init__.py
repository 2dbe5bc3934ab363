"""What an operator copies from deploy/ is valid, as hardened as it says, and carries requests."""
