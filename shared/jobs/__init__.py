"""Long-running jobs: their table, their files and their retries."""
