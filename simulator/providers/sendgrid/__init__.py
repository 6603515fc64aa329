"""SendGrid, played from its documentation."""
