"""Starts the processes of the Procfile and keeps them running."""
