"""The change log: every state change once, in order, for the feed, the stream and the webhooks."""
