"""How commands print rows."""
