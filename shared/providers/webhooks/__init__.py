"""What the providers' webhook adapters have in common."""
