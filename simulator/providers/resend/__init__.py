"""Resend, played from its documentation."""
