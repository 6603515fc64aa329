"""Calling out: where to, and with which bounds."""
