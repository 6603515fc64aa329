"""Sources: one configured provider account, its credentials, settings and public keys."""
