"""Alert notifications: channels, batching, retries and rendering."""
