"""Mailgun, played from its documentation."""
