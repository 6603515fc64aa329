"""The receiver: the public endpoint that verifies, stores and acknowledges webhooks."""
