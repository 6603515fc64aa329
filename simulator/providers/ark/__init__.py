"""Ark, played from its documentation."""
