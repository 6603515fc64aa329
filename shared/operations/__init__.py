"""Operating an installation: its status, checks, statistics and settings, and retention."""
