"""MailWebhook, played from its documentation."""
