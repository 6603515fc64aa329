"""The public endpoint: verifies, stores and acknowledges webhooks."""
