"""What the processes agree on: the domain, the providers' dialects, the database and the settings."""
