"""Finding events that a provider failed to deliver, and fetching them again."""
