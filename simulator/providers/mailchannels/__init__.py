"""MailChannels, played from its documentation."""
