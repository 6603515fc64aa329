"""The usual way, fairly written: what Tidings is compared with.

A Flask view on gunicorn that verifies, inserts one row by the ORM, commits, and sends one Celery task; a Celery
task for each event that does by the ORM what Tidings does by a statement for a whole batch. The same providers'
adapters, the same tables in a separate database, and at the end the same states.
"""

from typing import Final

QUEUE: Final = "usual"
"""Where its tasks wait."""
