"""How people are told of alerts: what a message says, and the channels that it goes out by."""
