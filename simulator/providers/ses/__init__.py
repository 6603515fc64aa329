"""Amazon SES, played from its documentation."""
