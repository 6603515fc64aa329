"""The Celery workers: process receipts, deliver changes, run jobs, evaluate alerts, and maintain the database."""
