"""The providers: every vector, every kind of event, every malformed request."""
