"""Responses that take longer than a thread may wait: long polls and event streams, on the event loop."""
