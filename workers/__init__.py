"""Celery: everything that takes time. One module per concern; tasks are one sentence each."""
