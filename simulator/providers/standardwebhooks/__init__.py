"""A sender of Standard Webhooks, played from its documentation."""
