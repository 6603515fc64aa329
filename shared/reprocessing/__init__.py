"""Running stored receipts through today's code and rules again."""
