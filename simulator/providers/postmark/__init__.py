"""Postmark, played from its documentation."""
