"""Retention and the figures of the overview."""
