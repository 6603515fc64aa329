"""Messages and the state of each recipient, folded from events."""
