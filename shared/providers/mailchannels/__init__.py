"""MailChannels: webhook adapter and management API."""
