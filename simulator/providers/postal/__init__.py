"""Postal, played from its documentation."""
