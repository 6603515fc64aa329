"""MailWebhook: webhook adapter."""
